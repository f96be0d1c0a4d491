"""The sizes that the app may choose, and those at which torch's conditions on them are false."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._sympy.value_ranges import ValueRanges

from builder.artifacts.stages import PreparedModel, Sample
from builder.model.capture.conditions import MOST_COMPARED, Exceptions, Sizes, environment_of, exceptions, places_of
from builder.model.capture.guards import export_narrowly
from builder.model.capture.named_sizes import resized
from builder.model.states import reset_states

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class OpenSizes:
    """The sizes that the app may choose, as an exported program has them; those of one name are one symbol."""

    def __init__(self, prepared: PreparedModel, program: ExportedProgram) -> None:
        self._environment = environment_of(program)
        self._places: dict[tuple[int, int], Any] = {}
        self._ranges: dict[Any, ValueRanges[Any]] = {}
        self._same: dict[Any, Any] = {}
        self._allowed: list[dict[Any, int]] = []
        self._names: dict[Any, str] = {}
        symbols, of_name = places_of(self._environment), dict[str, Any]()
        for place, sizes in enumerate(prepared.flexible):
            for axis, size in sizes.items():
                symbol = symbols[place, axis]
                self._same[symbol] = of_name.setdefault(size.name, symbol)
                self._ranges[of_name[size.name]] = ValueRanges(size.min, size.max)
                self._places[place, axis] = of_name[size.name]
                self._names[of_name[size.name]] = size.name
                self._allowed += [{} for _ in size.enumerated[len(self._allowed) :]]
                for shape, at in zip(self._allowed, size.enumerated, strict=False):
                    shape[of_name[size.name]] = at

    def exceptions(self, names: Sequence[str], among: Sequence[Sizes] = ()) -> Iterator[Exceptions]:
        """Conditions of the program that do not hold at all sizes, or at all `among` them; `names` are the inputs'."""
        allowed = among or self._allowed
        return exceptions(self._environment, self._places, self._ranges, names, self._same, allowed)

    def by_name(self, sizes: Mapping[Any, int]) -> Mapping[str, int]:
        """Sizes by symbol, as the recipe names them."""
        return {self._names[symbol]: size for symbol, size in sizes.items()}

    def by_symbol(self, sizes: Mapping[str, int]) -> Sizes:
        """Sizes as the recipe names them, by symbol."""
        return {symbol: sizes[name] for symbol, name in self._names.items() if name in sizes}


def narrowly(prepared: PreparedModel, sample: Mapping[str, torch.Tensor]) -> ExportedProgram:
    """What torch.export makes of the model for those sizes at which it runs as it does at the sample's."""
    ranges = tuple({axis: (size.min, size.max) for axis, size in sizes.items()} for sizes in prepared.flexible)
    return export_narrowly(prepared.module, tuple(sample.values()), ranges)


def answered_at(
    prepared: PreparedModel, open_sizes: OpenSizes, sample: Sample, found: Exceptions
) -> Mapping[str, Sample]:
    """Samples of sizes at which a condition is false and the model gives an answer; one more than are compared."""
    answered: dict[str, Sample] = {}
    for where, sizes in found.tried().items():
        tried = resized(prepared, sample, open_sizes.by_name(sizes))
        reset_states(prepared.module, prepared.states.values())
        try:
            with torch.no_grad():
                prepared.module(*tried.tensors.values())
        except Exception:  # whatever an operator raises for sizes that it was not made for
            continue
        answered[where] = tried
        if len(answered) > MOST_COMPARED:
            break
    reset_states(prepared.module, prepared.states.values())
    return answered
