"""Where Core ML itself would run each operator: on a Mac only, in the place of guesses."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from builder.artifacts.findings import LintFinding


def planned(path: Path) -> Iterator[LintFinding]:
    """Yield one finding for each kind of operator that Core ML's plan (MLComputePlan) puts off the Neural Engine.

    Not run by the tests, which need no Mac. Nothing elsewhere, and nothing before macOS 14.4, which has no plans.
    """
    if sys.platform != "darwin":
        return
    import coremltools as ct
    from coremltools.models.compute_plan import MLComputePlan

    compiled = ct.models.utils.compile_model(str(path))
    plan = MLComputePlan.load_from_path(path=compiled, compute_units=ct.ComputeUnit.CPU_AND_NE)
    program = plan.model_structure.program
    if program is None:
        return
    elsewhere: dict[str, list[str]] = defaultdict(list)
    total = 0
    for operation in (o for function in program.functions.values() for o in function.block.operations):
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is None:
            continue  # constants run nowhere
        total += 1
        if not _is_neural_engine(usage.preferred_compute_device):
            elsewhere[operation.operator_name].append(operation.outputs[0].name)
    for kind, names in sorted(elsewhere.items(), key=lambda item: -len(item[1])):
        yield LintFinding(
            rule="compute_plan",
            confidence="measured",
            count=len(names),
            examples=tuple(f"{name} runs off the Neural Engine ({kind})" for name in names[:5]),
            advice=f"{len(names)} of {total} operators: see the other rules for what may be the reason",
            sources=("Core ML's own compute plan on this machine (MLComputePlan)",),
        )


def _is_neural_engine(device: object) -> bool:
    return type(device).__name__ == "MLNeuralEngineComputeDevice"
