"""What a model returns, as named tensors: tuples, dictionaries and dataclasses, nested or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from builder.errors import ConversionError


def flatten_outputs(returned: object) -> dict[str, torch.Tensor]:
    """Return every tensor under a stable name.

    Given a tensor, the result is `{"output": tensor}`; of a tuple of several `output_0`,
    `output_1`, …; of a dictionary or
    dataclass its own keys, nested ones joined by `_`. None is left out. Raises ConversionError for anything else.
    """
    if isinstance(returned, torch.Tensor):
        _refuse_other_layouts(returned, "")
        return {"output": returned}
    flat: dict[str, torch.Tensor] = {}
    _collect(returned, "", flat)
    if not flat:
        raise ConversionError("the model returns no tensor", code="B0405", key="output")
    return {"output": flat["output_0"]} if list(flat) == ["output_0"] else flat


def _collect(value: object, name: str, flat: dict[str, torch.Tensor]) -> None:
    if value is None:
        return
    if isinstance(value, torch.Tensor):
        _refuse_other_layouts(value, name)
        flat[name] = value
        return
    for key, entry in _entries(value, name):
        identifier = "".join(c if c.isalnum() or c == "_" else "_" for c in str(key))
        _collect(entry, f"{name}_{identifier}" if name else _as_name(identifier), flat)


def _refuse_other_layouts(value: torch.Tensor, name: str) -> None:
    """Raise ConversionError for a tensor that is not an array of numbers, such as a quantized or a sparse one."""
    if value.is_meta:
        what, hint = "a tensor without values (on the device `meta`)", "take out what moves it there"
    elif value.is_quantized:
        what, hint = "a quantized tensor", "return `tensor.dequantize()`"
    elif value.is_nested or value.layout is not torch.strided:
        what, hint = "a sparse or nested tensor", "return `tensor.to_dense()`, or a padded one"
    else:
        return
    called = f" as {name}" if name else ""
    raise ConversionError(
        f"the model returns {what}{called}, which Core ML cannot", code="B0405", hint=hint, key="output"
    )


def _as_name(identifier: str) -> str:
    return identifier if identifier.isidentifier() else f"output_{identifier}"


def _entries(value: object, name: str) -> list[tuple[Any, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    raise ConversionError(
        f"the model returns a {type(value).__name__}{f' as {name}' if name else ''}, which Core ML cannot",
        code="B0405",
        hint="wrap the model in a factory (kind: python) whose forward returns tensors",
        key="output",
    )
