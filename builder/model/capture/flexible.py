"""Sizes that the app may choose: a captured program must compute the same as the model at each that is tried."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch

from builder.artifacts.stages import CapturedProgram, ExampleInputs, PreparedModel, Sample
from builder.errors import ConversionError
from builder.model.states import reset_states

_TOLERANCE = 1e-3
"""Of the largest value of an output; a program that is right differs by rounding, 1e-6, and one with a frozen branch by
all of it. What lies between is the capture check's to judge."""


class AtAnotherShape(Protocol):
    """Traces once more, at the shapes of a sample; says which reads of sizes gave something else there."""

    def __call__(self, sample: Sample, *, is_wrong: bool) -> tuple[str, ...]:
        """`is_wrong` says that the captured program is wrong at these shapes."""


def check_sizes(
    prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs, again: AtAnotherShape
) -> None:
    """Raise ConversionError when capture froze a size that the app may choose: other shapes or values, or none at all.

    Sizes between the ends at which the model itself raises are left out: an app cannot use them either.
    """
    tried = 0
    for number, sample in enumerate((*examples.other_shapes, *examples.between)):
        reset_states(prepared.module, prepared.states.values())
        why = _difference(prepared, captured, sample, may_refuse=number >= len(examples.other_shapes))
        reset_states(prepared.module, prepared.states.values())
        if why:
            message = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sample.tensors.items())
            places = again(sample, is_wrong=True)
            because = f"; there, {places[0]} gives something else" if places else ""
            raise ConversionError(
                f"{captured.method} froze a size: for {message} {why}{because}", code="B0403", key="capture.method"
            )
        tried += 1
    if examples.other_shapes and tried + 1 < math.prod(_choices(prepared)):
        again(examples.other_shapes[0], is_wrong=False)


def _choices(prepared: PreparedModel) -> Iterator[int]:
    """How many sizes each flexible dimension has; those of one name are one."""
    named = {size.name: size for sizes in prepared.flexible for size in sizes.values()}
    yield from (size.max - size.min + 1 for size in named.values())


def _difference(prepared: PreparedModel, captured: CapturedProgram, sample: Sample, *, may_refuse: bool) -> str | None:
    """In what the captured program is not the model at the shapes of a sample; None where it is."""
    tensors = list(sample.tensors.values())
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
