"""Values between operators as 8-bit integers, on the ranges that calibration data gives, by coremltools' passes.

coremltools measures the ranges with a model that predicts, so on a Mac only, and in 9.0 it keeps those of the last
sample alone (https://github.com/apple/coremltools/issues/2724). Ours come from the runtime and from all samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from builder.artifacts.stages import Sample, SkippedLayer
from builder.backends.coreml.compression.selection import select
from builder.backends.ranges import Range, join_ranges, why_no_scale
from builder.errors import ConversionError
from builder.progress import Progress
from builder.spec.compression import QuantizeActivations

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program
    from coremltools.optimize.coreml import OptimizationConfig

KINDS = ("conv", "linear", "add", "avg_pool", "max_pool")
"""The types of operators whose inputs and outputs coremltools quantizes."""


@dataclass(kw_only=True)
class ActivationStep:
    """A step at work; `changed` and `skipped` name operators and say what it did."""

    name: str
    settings: QuantizeActivations
    samples: Sequence[Sample]
    progress: Progress
    changed: list[str] = field(default_factory=list)
    skipped: list[SkippedLayer] = field(default_factory=list)

    noun = "operator"
    """What `changed` counts."""

    def apply(self, program: Program, ranges: Mapping[str, Range]) -> None:
        """Put a pair of quantize and dequantize before and after the chosen operators of `program`, in place.

        Given:   %y = conv(x=%x, weight=w)
        Result:  %q = quantize(%x);  %d = dequantize(%q);  %y = conv(x=%d, weight=w);  the same behind %y

        Raises ConversionError where nothing is left to quantize.
        """
        from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

        operators = [op for op in _operators(program) if op.op_type in KINDS]
        chosen = select(self.name, self.settings, operators, what="operator", types=_types, names=_names)
        config = self._config(operators, chosen, ranges)
        for kind in ("insert_prefix_quantize_dequantize_pair", "insert_suffix_quantize_dequantize_pair"):
            insert = PASS_REGISTRY[f"compression::{kind}"]
            insert.config, insert.activation_stats = config, _typed(ranges, program)
            insert.apply(program)
        PASS_REGISTRY["common::dequantize_quantize_pair_elimination"].apply(program)
        if not self.changed:
            message = self.skipped[0].reason if self.skipped else f"the model has no {', '.join(KINDS)}"
            raise ConversionError(
                f"compression {self.name} changed nothing: {message}", code="B0409", key=f"compression.{self.name}"
            )

    def _config(
        self, operators: Iterable[Operation], chosen: Sequence[Operation], ranges: Mapping[str, Range]
    ) -> OptimizationConfig:
        """The configuration of the passes, in which every operator that stays as it is stands by name."""
        import coremltools.optimize.coreml as cto

        left = {op.name: None for op in operators if op not in chosen}
        for op in chosen:
            reason = _why_not(op, ranges)
            if reason is None:
                self.changed.append(op.name)
            else:
                left[op.name] = None
                self.skipped.append(SkippedLayer(step=self.name, name=op.name, reason=reason))
        quantizer = cto.OpLinearQuantizerConfig(mode=self.settings.mode)
        return cto.OptimizationConfig(global_config=quantizer, op_name_configs=left)


def share_ranges(ranges: dict[str, Range], program: Program) -> None:
    """Give all inputs and the output of a concat one range (as coremltools does)."""
    join_ranges(
        ranges,
        (
            {variable.name for variable in (*op.inputs["values"], *op.outputs)}
            for op in _operators(program)
            if op.op_type == "concat"
        ),
    )


def _typed(ranges: Mapping[str, Range], program: Program) -> dict[str, Range]:
    """The ranges in the dtype of their values, which scales must have too."""
    halves = {
        variable.name
        for op in _operators(program)
        for value in (*op.inputs.values(), *op.outputs)
        for variable in (value if isinstance(value, list | tuple) else (value,))
        if variable is not None and variable.is_tensor_or_scalar_of(dtype="fp16")
    }
    return {
        name: {end: (np.float16 if name in halves else np.float32)(value) for end, value in known.items()}
        for name, known in ranges.items()
    }


def range_of(activation_stats: Mapping[str, Range], var_name: str) -> np.ndarray:
    """Like coremltools' `get_min_and_max_values`, which makes half precision of everything, so that fp32 fails."""
    return np.array([activation_stats[var_name]["rmin"], activation_stats[var_name]["rmax"]])


def _why_not(op: Operation, ranges: Mapping[str, Range]) -> str | None:
    """Why the passes would leave an operator alone; None where they do not."""
    taken = [op.inputs["x"], *([op.inputs["y"]] if op.op_type == "add" else [])]
    if any(variable.op is not None and variable.op.op_type == "const" for variable in taken):
        return "one of its inputs is a constant"
    reasons = (why_no_scale(variable.name, ranges) for variable in (*taken, *op.outputs))
    return next((reason for reason in reasons if reason is not None), None)


def _operators(program: Program) -> list[Operation]:
    """The operators of all functions; those in the blocks of cond and while_loop stay as they are."""
    return [op for function in program.functions.values() for op in function.operations]


def _types(op: Operation) -> frozenset[str]:
    return frozenset({op.op_type})


def _names(op: Operation) -> frozenset[str]:
    weight = op.inputs.get("weight")
    return frozenset({op.name, *(output.name for output in op.outputs), *([weight.name] if weight is not None else [])})
