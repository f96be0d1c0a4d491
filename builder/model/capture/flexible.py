"""Sizes that the app may choose: a captured program must compute the same as the model at each that is tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils._sympy.value_ranges import ValueRanges

from builder.artifacts.stages import CapturedProgram, ExampleInputs, PreparedModel, Sample
from builder.errors import ConversionError
from builder.model.capture.conditions import MOST_COMPARED, Exceptions, environment_of, exceptions, places_of
from builder.model.capture.guards import export_narrowly
from builder.model.capture.named_sizes import named_sizes, resized
from builder.model.states import reset_states

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_TOLERANCE = 1e-3
"""Of the largest value of an output; a program that is right differs by rounding, 1e-6, and one with a frozen branch by
all of it. What lies between is the capture check's to judge."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where the model's code runs in another way than at the sizes of the example."""

    samples: Sequence[Sample]
    is_all: bool
    """Whether it runs in one way at all other sizes."""


class AtAnotherShape(Protocol):
    """Traces once more, at the shapes of a sample; says which reads of sizes gave something else there."""

    def __call__(self, sample: Sample, *, is_wrong: bool) -> tuple[str, ...]:
        """`is_wrong` says that the captured program is wrong at these shapes."""


def check_sizes(
    prepared: PreparedModel,
    captured: CapturedProgram,
    examples: ExampleInputs,
    again: AtAnotherShape,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Raise ConversionError when capture froze a size that the app may choose: other shapes or values, or none at all.

    Sizes between the ends at which the model itself raises are left out: an app cannot use them either. `elsewhere`
    are sizes at which the model's code is known to run in another way.
    """
    tried, more = 0, elsewhere.samples if elsewhere else ()
    named = named_sizes(prepared, examples.samples[0])
    for number, sample in enumerate(itertools.chain(examples.other_shapes, examples.between, more, named)):
        reset_states(prepared.module, prepared.states.values())
        why = _difference(prepared, captured, sample.tensors, may_refuse=number >= len(examples.other_shapes))
        reset_states(prepared.module, prepared.states.values())
        if why:
            message = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sample.tensors.items())
            places = again(sample, is_wrong=True)
            because = f"; there, {places[0]} gives something else" if places else ""
            raise ConversionError(
                f"{captured.method} froze a size: for {message} {why}{because}", code="B0403", key="capture.method"
            )
        tried += 1
    is_known = elsewhere is not None and elsewhere.is_all
    if examples.other_shapes and not is_known and tried + 1 < math.prod(_choices(prepared)):
        again(examples.other_shapes[0], is_wrong=False)


def where_code_differs(prepared: PreparedModel, sample: Sample) -> Elsewhere:
    """Sizes at which the model's code does not run as it does at those of the sample; raises what torch.export does."""
    samples: list[Sample] = []
    is_all = True
    open_sizes = _OpenSizes(prepared, _narrow(prepared, sample.tensors))
    for found in open_sizes.exceptions(list(sample.tensors)):
        answered = _answered(prepared, open_sizes, sample, found)
        is_all = is_all and found.are_all and len(answered) <= MOST_COMPARED
        samples += answered.values()
    return Elsewhere(samples=samples, is_all=is_all)


def check_conditions(prepared: PreparedModel, program: ExportedProgram, sample: Sample) -> None:
    """Raise ConversionError where an exported program rests on a condition that the app's sizes may break.

    Where the model raises an error itself, no app can use them. Where few others break it the program may be right
    there too, as at a size of 1, which torch holds to be special: then it is compared with the model at each.
    """
    captured, open_sizes = CapturedProgram(program=program, method="export"), _OpenSizes(prepared, program)
    for found in open_sizes.exceptions(list(sample.tensors)):
        answered = _answered(prepared, open_sizes, sample, found)
        if not found.are_all or len(answered) > MOST_COMPARED:
            raise _froze(found.shown(next(iter(answered), None)))
        for where, resampled in answered.items():
            reset_states(prepared.module, prepared.states.values())
            difference = _difference(prepared, captured, resampled.tensors, may_refuse=True)
            reset_states(prepared.module, prepared.states.values())
            if difference:
                raise _froze(f"{found.shown(where)}: there {difference}")


def refused(prepared: PreparedModel, sample: Sample) -> ConversionError | None:
    """Of a model that torch.export refuses for its sizes: the first condition that some size breaks."""
    try:
        open_sizes = _OpenSizes(prepared, _narrow(prepared, sample.tensors))
    except Exception:  # whatever export refuses besides
        return None
    for found in open_sizes.exceptions(list(sample.tensors)):
        answered = _answered(prepared, open_sizes, sample, found)
        if answered or not found.are_all:
            return _froze(found.shown(next(iter(answered), None)))
        if found.equal:
            return ConversionError(
                f"the model raises an error where {' and '.join(found.equal)} are not equal: give both sizes one name, "
                "such as `{min: 4, max: 64, name: length}`",
                code="B0403",
                key="input",
            )
    return None


def _answered(
    prepared: PreparedModel, open_sizes: _OpenSizes, sample: Sample, found: Exceptions
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


def _froze(condition: str) -> ConversionError:
    message = f"export froze a size: it takes for true that {condition}"
    return ConversionError(message, code="B0403", key="capture.method")


def _narrow(prepared: PreparedModel, sample: Mapping[str, torch.Tensor]) -> ExportedProgram:
    ranges = tuple({axis: (size.min, size.max) for axis, size in sizes.items()} for sizes in prepared.flexible)
    return export_narrowly(prepared.module, tuple(sample.values()), ranges)


class _OpenSizes:
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

    def exceptions(self, names: Sequence[str]) -> Iterator[Exceptions]:
        """Conditions of the program that do not hold at all sizes; `names` are the inputs'."""
        return exceptions(self._environment, self._places, self._ranges, names, self._same, self._allowed)

    def by_name(self, sizes: Mapping[Any, int]) -> Mapping[str, int]:
        """Sizes by symbol, as the recipe names them."""
        return {self._names[symbol]: size for symbol, size in sizes.items()}


def _choices(prepared: PreparedModel) -> Iterator[int]:
    """How many sizes each flexible dimension has; those of one name are one."""
    named = {size.name: size for sizes in prepared.flexible for size in sizes.values()}
    yield from (size.max - size.min + 1 for size in named.values())


def _difference(
    prepared: PreparedModel, captured: CapturedProgram, sample: Mapping[str, torch.Tensor], *, may_refuse: bool
) -> str | None:
    """In what the captured program is not the model at the shapes of a sample; None where it is."""
    tensors = list(sample.values())
    with torch.no_grad():
        try:
            expected = prepared.module(*tensors)
        except Exception:
            if may_refuse:
                return None
            raise
    reset_states(prepared.module, prepared.states.values())
    try:
        found = captured.run(*tensors)
    except Exception as error:  # whatever an operator raises for sizes that it was not made for
        if _first_line(error).startswith("AssertionError: Guard failed"):
            return "the captured program refuses these sizes"
        return f"the captured program does not run: {_first_line(error)}"
    shapes = [[tuple(output.shape) for output in outputs] for outputs in (found, expected)]
    if shapes[0] != shapes[1]:
        return f"the captured program gives {shapes[0]} instead of {shapes[1]}"
    for name, got, wanted in zip(prepared.output_names, found, expected, strict=True):
        if not _is_close(got, wanted):
            return f"{name} of the captured program is not the model's"
    return None


def _is_close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    if not wanted.is_floating_point():
        return torch.equal(found.to(wanted.dtype), wanted)
    finite = wanted[wanted.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(found.to(wanted.dtype), wanted, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith("failed in the TorchScript interpreter."):
        return lines[-1]  # behind the places in the program
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
