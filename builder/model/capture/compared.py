"""A captured program, compared with the model at one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from builder.artifacts.stages import CapturedProgram, PreparedModel
from builder.errors import ConversionError
from builder.model.states import reset_states

_TOLERANCE = 1e-3
"""Of the largest value of an output; a program that is right differs by rounding, 1e-6, and one with a frozen branch by
all of it. What lies between is the capture check's to judge."""


def difference_at(
    prepared: PreparedModel, captured: CapturedProgram, sample: Mapping[str, torch.Tensor], *, may_refuse: bool
) -> str | None:
    """In what the captured program is not the model at the shapes of a sample; None where it is.

    Raises what the model raises there, unless it `may_refuse` the shapes: then they are left out. Raises
    ConversionError where the model itself is not the same twice.
    """
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
        return f"the captured program does not run: {_first_line(error)}"
    shapes = [[tuple(output.shape) for output in outputs] for outputs in (found, expected)]
    if shapes[0] != shapes[1]:
        return f"the captured program gives {shapes[0]} instead of {shapes[1]}"
    for name, got, wanted in zip(prepared.output_names, found, expected, strict=True):
        if not _is_close(got, wanted):
            refuse_random(prepared, tensors, expected)
            return f"{name} of the captured program is not the model's"
    return None


def refuse_random(prepared: PreparedModel, tensors: Sequence[torch.Tensor], first: Sequence[torch.Tensor]) -> None:
    """Raise ConversionError for a model that answers the same inputs in another way the second time."""
    reset_states(prepared.module, prepared.states.values())
    with torch.no_grad():
        second = prepared.module(*tensors)
    for name, one, other in zip(prepared.output_names, first, second, strict=True):
        if one.shape != other.shape or not _is_close(one, other):
            raise ConversionError(
                f"the model draws at random: {name} is another each time that it is called with the same inputs",
                code="B0403",
                hint="let the app draw: make the noise an input of a module of your own (`kind: python`)",
                key="source",
            )


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
