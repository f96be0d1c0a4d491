"""The sealed artifact, executed, computes what the original model computes, from the app's own inputs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from builder.artifacts import CheckReport, Sample
from builder.checks.bounds import output_sizes, parity_bounds
from builder.checks.comparison import Outputs, judge
from builder.checks.detections import check_detections
from builder.checks.engine import Execute, Kept
from builder.checks.limits import given_limits, parity_limits
from builder.checks.pictures import checked_picture
from builder.checks.subject import Subject
from builder.spec.checks import ParityCheck
from builder.spec.outputs import ImageOutput, Output

PICTURES = 2
"""How many samples the report shows."""


def check_parity(
    name: str,
    check: ParityCheck,
    subject: Subject,
    samples: Sequence[Sample],
    engine: str,
    execute: Execute,
    kept: Kept,
) -> CheckReport:
    """Compare with the model before compression: what declared substitutions changed is their own effect.

    States go on from what `kept` has, on both sides.
    """
    if subject.prepared.suppression is not None:
        return check_detections(name, check, subject, samples, engine, execute)
    results: list[Outputs] = []
    shown: list[tuple[Sample, Outputs, Outputs]] = []
    kept.enter(engine, subject)
    others = subject.other_outputs(subject.prepared.uncompressed, samples)
    references = [subject.run_original(subject.prepared.uncompressed, sample) for sample in samples]
    sizes = output_sizes(references)
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for sample, reference in zip(samples, references, strict=True):
            given = with_numbers(reference, execute(sample))
            results.append(without_rounding(subject, reference, given))
            subject.progress.bound(partial(parity_bounds, name, sizes, reference, results[-1]))
            if len(shown) < PICTURES:
                shown.append((sample, reference, given))
            advance(1)
    kept.leave(engine, subject)
    report = judge(
        name=name,
        kind=check.kind,
        engine=engine,
        references=references,
        results=results,
        scores=subject.scores,
        limits=parity_limits(subject.spec, check),
        others=others,
        given=given_limits(check),
        half=subject.spec.precision.kind != "fp32" or bool(subject.spec.compression),
    )
    pictures = tuple(picture for s, a, b in shown for picture in checked_picture(subject, s, a, b, engine))
    return replace(report, pictures=pictures)


def with_numbers(reference: Outputs, result: Outputs) -> Outputs:
    """`result` with numbers where the reference has them: Core ML gives an array of one."""
    return {
        name: value.reshape(()) if reference[name].ndim == 0 and value.shape == (1,) else value
        for name, value in result.items()
    }


def without_rounding(subject: Subject, reference: Outputs, result: Outputs) -> Outputs:
    """`result` without what rounding did to outputs that are declared coarser than float32.

    A level of a picture stands for all values within a half of it, a number in half precision for all that round to
    it; of these the one nearest to the reference is taken. What is left is what the artifact computes otherwise.
    """
    nearest = {}
    for name, output in subject.spec.output.items():
        if reference[name].shape == result[name].shape and result[name].is_floating_point():
            width = _rounding(result[name], output)
            nearest[name] = torch.clamp(reference[name].to(width.dtype), result[name] - width, result[name] + width)
    return {**result, **nearest}


def _rounding(values: torch.Tensor, output: Output) -> torch.Tensor:
    """By how much rounding may have changed each value of an output: half a level, half a step, or nothing."""
    if isinstance(output, ImageOutput) and output.color_layout != "G16":
        return torch.full_like(values, 0.5)
    if isinstance(output, ImageOutput) or output.dtype == "float16":
        step = np.spacing(np.abs(values.numpy()).astype(np.float16)).astype(np.float32)
        return torch.from_numpy(step) / 2
    return torch.zeros_like(values)
