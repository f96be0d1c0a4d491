"""What probably goes wrong or slow on devices, by Core AI's own trackers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from builder.artifacts.findings import LintFinding
from builder.errors import SourceError
from coreml_runtime.coreai.description import Description, describe_asset
from coreml_runtime.coreai.loading import read_function
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import Block, Operation, Reference

if TYPE_CHECKING:
    from builder.backends.coreai.adapter import Type

_TRACKER = "https://github.com/apple/coreai-torch/issues"
_ROUNDING = frozenset({"round", "floor_divide", "mul"})
"""What makes whole numbers before a cast; truncation is a product with a sign."""
_ACCUMULATING = frozenset({"reduce_sum", "reduce_product", "scan"})


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Operators that trouble was reported of."""

    operators: frozenset[str]
    what: str
    advice: str
    confidence: Literal["high", "medium", "low"]
    sources: tuple[str, ...]
    half_only: bool = False
    """Whether it is about programs with values in half precision."""


RULES: Mapping[str, Rule] = {
    "coreai_rounding_on_gpu": Rule(
        operators=frozenset({"round", "floor_divide", "broadcasting_floor_divide"}),
        what="was the identity on the GPU where it floors, ceils or truncates",
        advice="keep integers integers up to the end of the model, or run it on the CPU or the Neural Engine",
        confidence="medium",
        sources=(f"{_TRACKER}/10",),
    ),
    "coreai_argmax_in_half": Rule(
        operators=frozenset({"argmax", "topk", "argsort", "sort"}),
        what="chose wrong places on devices, in half precision",
        advice="give the app the scores, or keep the operator in float32 (`precision.fp32_op_types`)",
        confidence="medium",
        sources=(f"{_TRACKER}/116", f"{_TRACKER}/115", f"{_TRACKER}/66"),
        half_only=True,
    ),
    "coreai_data_dependent_slice": Rule(
        operators=frozenset({"slice_update"}),
        what="ended the process where its indices are computed",
        advice="write into a state at a place that the app gives, by a scatter",
        confidence="low",
        sources=(f"{_TRACKER}/6",),
    ),
}


def lint(path: Path) -> tuple[LintFinding, ...]:
    """Findings, in the order of the rules. Raises SourceError where the asset cannot be read."""
    try:
        found = describe_asset(path)
    except RuntimeFailure as error:
        raise SourceError(f"the model cannot be read: {error}", code="B0302") from error
    is_half = any(dtype in ("fp16", "float16", "f16") for dtype in found.storage)
    results = []
    for name, rule in RULES.items():
        hits = {op: count for op, count in found.operators.items() if op in rule.operators}
        if hits and (is_half or not rule.half_only):
            results.append(_finding(name, rule, hits))
    walked = [each for name in found.functions for each in _operations(read_function(path, name).block)]
    return (*results, *_high_ranks(found), *_round_trips(walked), *_integer_sums(walked), *_hardswishes(walked))


def _operations(block: Block) -> Iterator[Operation]:
    """All operations, those of inner blocks too."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _round_trips(operations: Sequence[Operation]) -> list[LintFinding]:
    """Casts of floats to integers and straight back, which the compiler took for nothing."""
    made = {output.name: each for each in operations for output in each.outputs}
    types = {output.name: output.type for each in operations for output in each.outputs}
    found = []
    for each in operations:
        source = _argument(each) if each.type == "cast" else None
        before = made.get(source or "")
        if before is None or before.type != "cast" or not _is_float(each.outputs[0].type):
            continue
        inner = made.get(_argument(before) or "")
        rounded = inner is not None and inner.type in _ROUNDING
        if not _is_float(types[source or ""]) and _is_float(types.get(_argument(before) or "")) and not rounded:
            found.append(each.outputs[0].name)
    return _finding_of(
        "coreai_cast_round_trip",
        [f"{name} casts an integer back that was cast from a float" for name in found],
        advice="round with `floor` or `trunc` before the cast: where the pair is folded away, nothing is cut off",
        sources=(f"{_TRACKER}/9",),
        confidence="medium",
    )


def _integer_sums(operations: Sequence[Operation]) -> list[LintFinding]:
    """Sums and products of integers, which torch computes in 64 bits."""
    found = [
        each.outputs[0].name
        for each in operations
        if each.type in _ACCUMULATING and isinstance(kind := each.outputs[0].type, TensorType) and kind.dtype == "int32"
    ]
    return _finding_of(
        "coreai_int64",
        [f"{name} adds up integers of 32 bits" for name in found],
        advice="keep sums below 2**31, or add up floats: torch counts in 64 bits, and Core AI has none",
        sources=("https://github.com/apple/coreai-torch/pull/45",),
        confidence="low",
    )


_HARDSWISH = ("divide", "minimum", "maximum", "add")
"""How `x * clamp(x + 3, 0, 6) / 6` computes its factor, the last first."""


def _hardswishes(operations: Sequence[Operation]) -> list[LintFinding]:
    """Products of matrices (N, C) in half precision that a hardswish reads, maybe past a bias."""
    made = {output.name: each for each in operations for output in each.outputs}
    found = [each.outputs[0].name for each in operations if _is_hardswish_of_a_product(each, made)]
    return _finding_of(
        "coreai_hardswish_of_a_product",
        [f"{name} is the hardswish of a product of two axes" for name in found],
        advice="give the layer an input of four axes, (1, 1, N, C): the Neural Engine was 4 % off without",
        sources=(f"{_TRACKER}/51",),
        confidence="medium",
    )


def _is_hardswish_of_a_product(operation: Operation, made: Mapping[str, Operation]) -> bool:
    kind = operation.outputs[0].type if operation.outputs else None
    if operation.type != "mul" or not isinstance(kind, TensorType) or (kind.dtype, len(kind.shape)) != ("fp16", 2):
        return False
    names = _arguments(operation)
    for value, factor in (names, names[::-1]) if len(names) == 2 else ():
        here = made.get(factor)
        for expected in _HARDSWISH:
            if here is None or here.type != expected:
                break
            last, here = _arguments(here)[0], made.get(_arguments(here)[0])
        else:
            before = made.get(value)
            bias = before is not None and before.type == "add"
            product = made.get(_arguments(before)[0]) if bias and before is not None else before
            return last == value and product is not None and product.type == "batch_matmul"
    return False


def _arguments(operation: Operation) -> list[str]:
    """The names of the values that it reads."""
    return [each.name for argument in operation.inputs.values() for each in argument if isinstance(each, Reference)]


def _finding_of(
    rule: str,
    examples: list[str],
    *,
    advice: str,
    sources: tuple[str, ...],
    confidence: Literal["high", "medium", "low"],
) -> list[LintFinding]:
    if not examples:
        return []
    return [
        LintFinding(
            rule=rule,
            confidence=confidence,
            count=len(examples),
            examples=tuple(examples[:5]),
            advice=advice,
            sources=sources,
        )
    ]


def _argument(operation: Operation) -> str | None:
    """The name of the first value that it reads."""
    return next(iter(_arguments(operation)), None)


def _is_float(kind: Type) -> bool:
    return isinstance(kind, TensorType) and kind.dtype in ("fp16", "fp32", "bf16")


def _finding(name: str, rule: Rule, hits: Mapping[str, int]) -> LintFinding:
    return LintFinding(
        rule=name,
        confidence=rule.confidence,
        count=sum(hits.values()),
        examples=tuple(f"{op} {rule.what}" for op in hits),
        advice=rule.advice,
        sources=rule.sources,
    )


def _high_ranks(found: Description) -> list[LintFinding]:
    """Constants with more axes than the Neural Engine computes with; values between operators are not looked at."""
    high = [each for each in found.constants if len(each.shape) > 5]
    if not high:
        return []
    return [
        LintFinding(
            rule="coreai_high_rank",
            confidence="low",
            count=len(high),
            examples=tuple(f"{each.name} has {len(each.shape)} axes" for each in high[:5]),
            advice="reshape so that no value has more than five axes",
            sources=(f"{_TRACKER}/67",),
        )
    ]
