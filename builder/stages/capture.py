"""The capture stage: the prepared module as a TorchScript trace or an exported program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from builder.artifacts import CapturedProgram, ExampleInputs, PreparedModel
from builder.errors import ConversionError


def trace(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A TorchScript trace; not run again to check itself, since the capture check compares it on several inputs."""
    with _attention_in_operators():
        traced: Any = torch.jit.trace(module, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]  # torch
        return traced


def export(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """An ExportedProgram in core ATen operators, as coremltools takes it."""
    with _attention_in_operators():
        return torch.export.export(module, inputs).run_decompositions({})


METHODS: Mapping[str, Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], Any]] = {"trace": trace, "export": export}
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
            program = METHODS[method](prepared.module, inputs)
    except Exception as error:
        raise ConversionError(f"{method} failed: {_first_line(error)}", key="capture.method") from error
    return CapturedProgram(program=program, method=method, failures=dict(failures))


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
