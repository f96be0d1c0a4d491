"""The sealed artifact, executed, computes what the original model computes, from the app's own inputs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from builder.artifacts import CheckReport, PreparedModel, Sample
from builder.checks.comparison import judge
from builder.checks.engine import Execute
from builder.checks.limits import parity_limits
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.checks import ParityCheck


def check_parity(
    name: str,
    check: ParityCheck,
    *,
    spec: BuildSpec,
    prepared: PreparedModel,
    samples: Sequence[Sample],
    engine: str,
    execute: Execute,
    progress: Progress,
) -> CheckReport:
    """Compare the artifact with the model as captured: what declared substitutions changed is their own effect."""
    references, results = [], []
    with progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for sample in samples:
            references.append(run_original(prepared.module, prepared.output_names, sample))
            results.append(execute(sample))
            advance(1)
    return judge(
        name=name,
        kind=check.kind,
        engine=engine,
        references=references,
        results=results,
        scores=prepared.output_names[0] if spec.classifier else None,
        limits=parity_limits(spec, check),
    )


def run_original(
    module: Callable[..., tuple[torch.Tensor, ...]], names: Sequence[str], sample: Sample
) -> dict[str, torch.Tensor]:
    """Run a PyTorch module of the deployed form on one sample."""
    with torch.no_grad():
        outputs = module(*sample.tensors.values())
    return dict(zip(names, outputs, strict=True))
