"""A program with its intervals and with what was seen, as the rules look at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from builder.analysis.headroom.seen import Seen, Values
from coreml_runtime.intervals.visit import Operand, Visit
from coreml_runtime.ops import operators
from coreml_runtime.ops.table import is_exact

_THROUGH = frozenset({"cast", "identity", "read_state"})
_NOTHING = Values()


@dataclass(frozen=True, kw_only=True)
class Program:
    """All operators, and the values that were seen."""

    visits: Sequence[Visit]
    seen: Seen | None = None
    is_declared: bool = True
    """Whether the bounds of inputs were declared."""

    @cached_property
    def makers(self) -> Mapping[str, Visit]:
        """By value, the operator that computes it."""
        return {output.name: visit for visit in self.visits for output in visit.outputs if output.name}

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Visit]]:
        """By value, the operators that read it."""
        found: dict[str, list[Visit]] = {}
        for visit in self.visits:
            for argument in visit.inputs.values():
                for operand in argument:
                    if operand.name:
                        found.setdefault(operand.name, []).append(visit)
        return found

    def values(self, name: str | None) -> Values | None:
        """What was seen of a value; None where nothing was."""
        found = None if self.seen is None or name is None else self.seen.values.get(name)
        return found if found is not None and found.low <= found.high else None

    def origin(self, operand: Operand, *, through: frozenset[str] = _THROUGH) -> Visit | None:
        """What computes a value, past operators that only move or convert it."""
        visit = self.makers.get(operand.name or "")
        while visit is not None and (visit.operation.type in through or is_moving(visit)):
            before = first(visit, "x") or first(visit, "data")
            visit = None if before is None else self.makers.get(before.name or "")
        return visit

    def after(self, visit: Visit, *, through: frozenset[str]) -> Iterator[Visit]:
        """The operators that read what `visit` computes, directly or past moving ones and those of `through`."""
        waiting, known = [visit], {id(visit)}
        while waiting:
            current = waiting.pop()
            for output in current.outputs:
                for reader in self.readers.get(output.name or "", ()):
                    if id(reader) in known:
                        continue
                    known.add(id(reader))
                    yield reader
                    if reader.operation.type in through or is_moving(reader):
                        waiting.append(reader)


_OF_ONE = frozenset(
    {
        *(
            "expand_dims",
            "squeeze",
            "reshape",
            "transpose",
            "reverse",
            "slice_by_index",
            "slice_by_size",
            "split",
            "tile",
        ),
        *("gather", "gather_along_axis", "gather_nd", "depth_to_space", "space_to_depth", "pixel_shuffle", "flatten2d"),
        *(
            "pixel_unshuffle",
            "batch_to_space",
            "sliding_windows",
            "crop",
            "reshape_like",
            "reduce_max",
            "max_pool",
            "topk",
        ),
    }
)


def is_moving(visit: Visit) -> bool:
    """Whether an operator gives values of its argument `x`, at other places."""
    return visit.operation.type in _OF_ONE


def is_computing(visit: Visit) -> bool:
    """Whether an operator makes values that its arguments do not have."""
    kernel = operators().get(visit.operation.type)
    return kernel is not None and not is_exact(kernel)


def first(visit: Visit, argument: str) -> Operand | None:
    """The only operand of an argument."""
    found = visit.inputs.get(argument, ())
    return found[0] if len(found) == 1 else None
