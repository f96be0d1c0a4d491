"""The sealed artifact, executed, computes what the original model computes, from the app's own inputs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from builder.artifacts import CheckReport, Sample
from builder.checks.comparison import Outputs, judge
from builder.checks.engine import Execute
from builder.checks.limits import parity_limits
from builder.checks.pictures import checked_picture
from builder.checks.subject import Subject
from builder.spec.checks import ParityCheck
from builder.spec.outputs import ImageOutput

PICTURES = 2
"""How many samples the report shows."""


def check_parity(
    name: str, check: ParityCheck, subject: Subject, samples: Sequence[Sample], engine: str, execute: Execute
) -> CheckReport:
    """Compare the artifact with the model as captured: what declared substitutions changed is their own effect."""
    references, results = [], []
    subject.reset()
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for sample in samples:
            references.append(subject.run_original(subject.prepared.module, sample))
            results.append(without_rounding(subject, references[-1], execute(sample)))
            advance(1)
    report = judge(
        name=name,
        kind=check.kind,
        engine=engine,
        references=references,
        results=results,
        scores=subject.scores,
        limits=parity_limits(subject.spec, check),
    )
    shown = zip(samples[:PICTURES], references, results, strict=False)
    pictures = tuple(picture for s, a, b in shown for picture in checked_picture(subject, s, a, b, engine))
    return replace(report, pictures=pictures)


def without_rounding(subject: Subject, reference: Outputs, result: Outputs) -> Outputs:
    """`result` without what rounding to 8-bit levels did: pictures hold the level that the reference rounds to.

    A level stands for all values within a half of it; the one nearest to the reference is taken.
    """
    pictures = [
        name
        for name, output in subject.spec.output.items()
        if isinstance(output, ImageOutput) and output.color_layout != "G16"
    ]
    nearest = {
        name: torch.clamp(reference[name].to(result[name].dtype), result[name] - 0.5, result[name] + 0.5)
        for name in pictures
        if reference[name].shape == result[name].shape
    }
    return {**result, **nearest}
