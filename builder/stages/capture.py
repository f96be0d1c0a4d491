"""The capture stage: the prepared module as a TorchScript trace or an exported program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from builder.artifacts import CapturedProgram, ExampleInputs, PreparedModel
from builder.errors import ConversionError
from builder.stages.states import reset_states


def trace(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A TorchScript trace; not run again to check itself, since the capture check compares it on several inputs."""
    with _attention_in_operators():
        traced: Any = torch.jit.trace(prepared.module, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]  # torch
        return traced


def export(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...]) -> Any:
    """An ExportedProgram in core ATen operators, as coremltools takes it."""
    with _attention_in_operators():
        shapes = _dynamic_shapes(prepared)
        return torch.export.export(prepared.module, inputs, dynamic_shapes=shapes).run_decompositions({})


def _dynamic_shapes(prepared: PreparedModel) -> Any:
    """What `torch.export` is told of flexible dimensions; the prepared module takes `*inputs`, hence the tuple."""
    if not any(prepared.flexible):
        return None
    dimensions = {
        size.name: torch.export.Dim(size.name, min=size.min, max=size.max)
        for sizes in prepared.flexible
        for size in sizes.values()
    }
    return (tuple({d: dimensions[size.name] for d, size in sizes.items()} for sizes in prepared.flexible),)


METHODS: Mapping[str, Callable[[PreparedModel, tuple[torch.Tensor, ...]], Any]] = {"trace": trace, "export": export}
"""Every way to capture, in the order in which `auto` tries them."""


def methods_to_try(method: str) -> tuple[str, ...]:
    """The methods that a recipe's `capture.method` allows, in order."""
    return tuple(METHODS) if method == "auto" else (method,)


def capture(
    prepared: PreparedModel, examples: ExampleInputs, method: str, failures: Mapping[str, str]
) -> CapturedProgram:
    """Capture `prepared.module` with one method, on the first sample.

    `failures` says why the methods before did not work. Raises ConversionError when this one does not.
    """
    inputs = tuple(examples.samples[0].tensors.values())
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own use of what torch deprecates
            program = METHODS[method](prepared, inputs)
    except Exception as error:
        raise ConversionError(f"{method} failed: {_first_line(error)}", key="capture.method") from error
    reset_states(prepared.module, prepared.states.values())
    captured = CapturedProgram(program=program, method=method, failures=dict(failures))
    _check_other_shapes(prepared, captured, examples)
    return captured


def _check_other_shapes(prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs) -> None:
    """Raise ConversionError when capture froze a size that the app may choose: wrong shapes, or none at all."""
    for sample in examples.other_shapes:
        tensors = list(sample.tensors.values())
        said = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sample.tensors.items())
        with torch.no_grad():
            wanted = [tuple(output.shape) for output in prepared.module(*tensors)]
        try:
            found = [tuple(output.shape) for output in captured.run(*tensors)]
        except Exception as error:
            raise ConversionError(
                f"{captured.method} froze a size: the captured program does not run for {said}: {_first_line(error)}",
                key="capture.method",
            ) from error
        if found != wanted:
            raise ConversionError(
                f"{captured.method} froze a size: for {said} the captured program gives {found} instead of {wanted}",
                key="capture.method",
            )
    reset_states(prepared.module, prepared.states.values())


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _attention_in_operators() -> Iterator[None]:
    """Keep torch from fusing attention into `_native_multi_head_attention`, which coremltools cannot convert."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
