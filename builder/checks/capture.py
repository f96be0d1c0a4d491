"""The captured program computes what the eager model computes, on several inputs."""

from __future__ import annotations

import torch

from builder.artifacts import CapturedProgram, CheckReport, ExampleInputs, PreparedModel
from builder.checks.comparison import judge
from builder.checks.limits import capture_limits
from builder.spec.checks import CaptureCheck


def check_capture(
    name: str, check: CaptureCheck, prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs
) -> CheckReport:
    """Run both on the examples, the first of which was captured; others show what capture froze."""
    references, results = [], []
    for sample in examples.samples[: check.samples]:
        tensors = tuple(sample.tensors.values())
        with torch.no_grad():
            eager = prepared.module(*tensors)
        references.append(dict(zip(prepared.output_names, eager, strict=True)))
        results.append(dict(zip(prepared.output_names, captured.run(*tensors), strict=True)))
    return judge(
        name=name,
        kind=check.kind,
        engine="none",
        references=references,
        results=results,
        scores=None,
        limits=capture_limits(check),
    )
