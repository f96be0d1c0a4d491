"""Sizes that the app may choose: a captured program must compute the same as the model at each that is tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from builder.artifacts.stages import CapturedProgram, ExampleInputs, PreparedModel, Sample
from builder.errors import ConversionError
from builder.model.capture.compared import difference_at
from builder.model.capture.conditions import MOST_COMPARED, Exceptions
from builder.model.capture.named_sizes import named_sizes
from builder.model.capture.open_sizes import OpenSizes, answered_at, narrowly
from builder.model.states import reset_states

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where the model's code runs in another way than at the sizes of the example."""

    samples: Mapping[str, Sample]
    """By their sizes, as an error shows them."""
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
    tried, more = 0, elsewhere.samples.values() if elsewhere else ()
    named = named_sizes(prepared, examples.samples[0])
    for number, sample in enumerate(itertools.chain(examples.other_shapes, examples.between, more, named)):
        reset_states(prepared.module, prepared.states.values())
        why = difference_at(prepared, captured, sample.tensors, may_refuse=number >= len(examples.other_shapes))
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
    open_sizes = OpenSizes(prepared, narrowly(prepared, sample.tensors))
    ways = [_broken(prepared, open_sizes, sample, found) for found in open_sizes.exceptions(list(sample.tensors))]
    samples = {where: each for way in ways for where, each in way.samples.items()}
    return Elsewhere(samples=samples, is_all=all(way.is_all for way in ways))


def _broken(prepared: PreparedModel, open_sizes: OpenSizes, sample: Sample, found: Exceptions) -> Elsewhere:
    """Sizes that break a condition, to be compared: each of few, some of many, and where the model goes yet other ways.

    They are all where the model runs in one way at the others that break it, or, where torch.export has it, at all of
    these but a few.
    """
    answered = answered_at(prepared, open_sizes, sample, found)
    if len(answered) <= MOST_COMPARED:
        return Elsewhere(samples=answered, is_all=found.are_all)
    samples = dict(answered_at(prepared, open_sizes, sample, found.spread(MOST_COMPARED)) or answered)
    try:
        there = OpenSizes(prepared, narrowly(prepared, samples[_middle(samples)].tensors))
    except Exception:  # whatever torch.export refuses
        return Elsewhere(samples=samples, is_all=False)
    sizes = [there.by_symbol(open_sizes.by_name(each)) for each in found.sizes.values()]
    is_all = found.are_all
    for other in there.exceptions(list(sample.tensors), sizes):
        further = answered_at(prepared, there, sample, other)
        samples |= further
        is_all = is_all and len(further) <= MOST_COMPARED
    return Elsewhere(samples=samples, is_all=is_all)


class FrozenSizeError(ConversionError):
    """A program rests on a condition that is false at `sample`, at which the model runs in another way."""

    def __init__(self, condition: str, sample: Sample | None) -> None:
        super().__init__(f"export froze a size: it takes for true that {condition}", code="B0403", key="capture.method")
        self.sample = sample


def check_conditions(prepared: PreparedModel, program: ExportedProgram, sample: Sample) -> None:
    """Raise FrozenSizeError where an exported program rests on a condition that the app's sizes may break.

    Where the model raises an error itself, no app can use them. Where few others break it the program may be right
    there too, as at a size of 1, which torch holds to be special: then it is compared with the model at each. Where
    many do (`if size % 8: pad`), at some of them, once the model is known to run in one way at all.
    """
    captured, open_sizes = CapturedProgram(program=program, method="export"), OpenSizes(prepared, program)
    for found in open_sizes.exceptions(list(sample.tensors)):
        broken = _broken(prepared, open_sizes, sample, found)
        if not broken.is_all:
            where = next(iter(broken.samples), None)
            raise FrozenSizeError(found.shown(where), broken.samples[_middle(broken.samples)] if where else None)
        for where, resampled in broken.samples.items():
            reset_states(prepared.module, prepared.states.values())
            difference = difference_at(prepared, captured, resampled.tensors, may_refuse=True)
            reset_states(prepared.module, prepared.states.values())
            if difference:
                other = broken.samples[_middle(broken.samples)]
                raise FrozenSizeError(f"{found.shown(where)}: there {difference}", other)


def _middle(samples: Mapping[str, Sample]) -> str:
    """Where one in the middle is, since small sizes are often special."""
    return list(samples)[len(samples) // 2]


def refused(prepared: PreparedModel, sample: Sample) -> ConversionError | None:
    """Of a model that torch.export refuses for its sizes: the first condition that some size breaks."""
    try:
        open_sizes = OpenSizes(prepared, narrowly(prepared, sample.tensors))
    except Exception:  # whatever export refuses besides
        return None
    for found in open_sizes.exceptions(list(sample.tensors)):
        answered = answered_at(prepared, open_sizes, sample, found)
        if answered or not found.are_all:
            where = next(iter(answered), None)
            return FrozenSizeError(found.shown(where), answered[_middle(answered)] if where else None)
        if found.equal:
            return ConversionError(
                f"the model raises an error where {' and '.join(found.equal)} are not equal: give both sizes one name, "
                "such as `{min: 4, max: 64, name: length}`",
                code="B0403",
                key="input",
            )
    return None


def _choices(prepared: PreparedModel) -> Iterator[int]:
    """How many sizes each flexible dimension has; those of one name are one."""
    named = {size.name: size for sizes in prepared.flexible for size in sizes.values()}
    yield from (size.max - size.min + 1 for size in named.values())
