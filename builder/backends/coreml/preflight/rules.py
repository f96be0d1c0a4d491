"""What the graph itself tells, without a conversion: ranks, dtypes, writes into views, sizes that depend on values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from builder.backends.coreml.preflight.obstacles import Obstacle, gather
from builder.backends.coreml.preflight.operators import Operator

MOST_DIMENSIONS = 5
"""Core ML's tensors (`coremltools/converters/mil/mil/ops/defs`, and Core ML refuses to load more)."""
_INT32 = range(-(2**31), 2**31)
_OPEN_ENDED = {2**63 - 1, -(2**63)}
"""How torch writes "to the end" in slices and "no limit" elsewhere."""
_SIZED_BY_VALUES = frozenset(
    ["nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "_unique", "argwhere"]
)


def high_ranks(found: Sequence[tuple[Operator | None, int]]) -> list[Obstacle]:
    """Tensors of more dimensions than Core ML has, of those that are left in a converted program."""
    what = "gives a tensor of rank {}, and Core ML has at most " + str(MOST_DIMENSIONS)
    known = gather("rank", [(operator, what.format(rank)) for operator, rank in found if operator is not None], "stops")
    unknown = {rank for operator, rank in found if operator is None} if not known else ()
    return known + [Obstacle(rule="rank", what=f"an operator {what.format(r)}", severity="stops") for r in unknown]


def big_integers(operators: Sequence[Operator]) -> list[Obstacle]:
    """Constants that int32, Core ML's only wide integer, does not hold."""

    def found() -> Iterator[tuple[Operator, str]]:
        for operator in operators:
            for value in operator.constants:
                if isinstance(value, int) and value not in _INT32 and value not in _OPEN_ENDED:
                    yield operator, f"takes the integer {value}, which int32 does not hold: Core ML has no int64"

    return gather("dtype", found(), "distorts")


def lost(operators: Sequence[Operator]) -> list[Obstacle]:
    """Writes in place through a view, which coremltools turns into operators whose result nobody reads."""
    what = "writes in place into {}, and the tensor behind it is read later: the change is lost"
    return gather("in_place", ((o, what.format(_article(o.overwritten))) for o in operators), "distorts")


def rewritten(operators: Sequence[Operator]) -> list[Obstacle]:
    """Such writes that builder keeps."""
    what = "writes in place into {}, which builder gives back to the tensor behind it"
    return gather("in_place", ((o, what.format(_article(o.overwritten))) for o in operators), "note")


def _article(views: str | None) -> str:
    if views is None or not views or views.startswith("("):
        return f"a tensor {views or 'that is read by another name'}"
    return f"a {views}"


def double_precision(operators: Sequence[Operator]) -> list[Obstacle]:
    """float64, which becomes float32."""
    found = (
        (o, "gives float64, which Core ML lacks: it is computed in float32")
        for o in operators
        if any(fact is not None and fact.dtype == torch.float64 and fact.shape != () for fact in o.outputs)
    )
    return gather("dtype", found, "note")


def sizes_by_values(operators: Sequence[Operator]) -> list[Obstacle]:
    """Results whose size depends on values."""

    def found() -> Iterator[tuple[Operator, str]]:
        for operator in operators:
            by_mask = operator.name == "index" and any(
                fact is not None and fact.dtype in (torch.bool, torch.uint8) for fact in operator.inputs[1:]
            )
            if operator.name in _SIZED_BY_VALUES or by_mask:
                yield operator, "gives a size that depends on values"

    return gather("values", found(), "note")


RULES: tuple[Callable[[Sequence[Operator]], list[Obstacle]], ...] = (
    big_integers,
    double_precision,
    sizes_by_values,
)
