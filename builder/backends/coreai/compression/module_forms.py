"""The forms of weights that steps on the PyTorch model made: buffers next to a weight say how its values are stored.

coremltools.optimize.torch leaves dense values and, as `_COREML_/weight/…`, the scales, tables and kinds that make them
(`coremltools/optimize/torch/_utils/metadata_utils.py`). What coremltools' converter of traces makes of these is made
here of the values themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from builder.errors import ConversionError
from coreml_runtime.forms import Form, Palette, Scaled, expand

_PREFIX = "_COREML_"
_PRUNED, _PALETTIZED, _QUANTIZED = 1, 2, 3
"""`CompressionType` of coremltools."""

_WIDTHS = (2, 4, 8)
"""Bits of integers that Core AI stores; those of GPTQ with 3 or 6 take the next."""

Array = np.ndarray


def module_forms(root: torch.nn.Module) -> dict[str, Form]:
    """By path of each weight that a step has compressed, its form. Raises ConversionError for kinds unknown here."""
    found = {}
    for path, module in root.named_modules():
        for name, known in _buffers(module).items():
            weight = module.get_parameter(name).detach().numpy()
            whole = f"{path}.{name}".removeprefix(".").removeprefix("model.")
            found[whole] = _form(whole, weight, known)
    return found


def _buffers(module: torch.nn.Module) -> dict[str, dict[str, Array]]:
    """What is known of each weight of a module itself, by weight and by what it is."""
    found: dict[str, dict[str, Array]] = defaultdict(dict)
    for key, value in module.named_buffers(recurse=False):
        parts = key.split("/")
        if parts[0] == _PREFIX and len(parts) == 3:
            found[parts[1]][parts[2]] = value.detach().numpy()
    return dict(found)


def _form(path: str, weight: Array, known: Mapping[str, Array]) -> Form:
    """The form of one weight, whose dense values stay what they are."""
    kinds = [int(kind) for kind in known["compression_type"]]
    form = Form(dense=weight)
    if sorted(kinds) in ([_QUANTIZED], [_PRUNED, _QUANTIZED]):
        form = replace(form, scaled=_scaled(weight, known))
    elif sorted(kinds) in ([_PALETTIZED], [_PRUNED, _PALETTIZED]):
        form = replace(form, palette=_palette(weight, known))
    elif kinds != [_PRUNED]:
        raise ConversionError(
            f"{path} is compressed in a way that Core AI is not given: kinds {kinds}", code="B0401", key="compression"
        )
    return _sparse(form) if _PRUNED in kinds else form


def _scaled(weight: Array, known: Mapping[str, Array]) -> Scaled:
    scale = _as_wide(known["quantization_scale"], weight)
    zero = _as_wide(known["zero_point"], weight) if "zero_point" in known else np.zeros_like(scale)
    data = np.round(weight / expand(scale, weight.shape)) + expand(zero, weight.shape)
    bits = next(each for each in _WIDTHS if each >= int(known["quantization_n_bits"]))
    is_signed = bool(data.min() < 0 or zero.min() < 0)
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    kind = np.int8 if is_signed else np.uint8
    return Scaled(data=np.clip(data, least, most).astype(kind), scale=scale, zero=zero.astype(kind), bits=bits)


def _palette(weight: Array, known: Mapping[str, Array]) -> Palette:
    table = known["lut"]
    table = table if table.ndim == weight.ndim + 2 else table[..., None]
    bits = max(1, int(np.ceil(np.log2(table.shape[-2]))))
    missing = (1 << bits) - table.shape[-2]
    table = np.pad(table, [(0, 0)] * weight.ndim + [(0, missing), (0, 0)]).astype(weight.dtype)
    scale = _as_wide(known["palettization_scale"], weight) if "palettization_scale" in known else None
    if table.shape[-1] != 1:
        raise ConversionError("tables of vectors come from no step on modules", code="B0401", key="compression")
    indices = _indices(weight if scale is None else weight / scale, table)
    return Palette(indices=indices, table=table, bits=bits, axis=0, scale=scale)


def _indices(weight: Array, table: Array) -> NDArray[np.uint8]:
    """The nearest entry of each value's table."""
    found = np.empty(weight.shape, np.uint8)
    blocks = table.shape[:-2]
    for block in product(*map(range, blocks)):
        part = tuple(
            slice(place * size // count, (place + 1) * size // count)
            for place, size, count in zip(block, weight.shape, blocks, strict=True)
        )
        entries = table[block][:, 0]
        order = np.argsort(entries, kind="stable")
        middles = (entries[order][1:] + entries[order][:-1]) / 2
        found[part] = order[np.searchsorted(middles, weight[part])]
    return found


def _sparse(form: Form) -> Form:
    """The form without its zeros where that is smaller; several tables and zero points stay with all values."""
    if form.palette is not None and form.palette.table.size != 1 << form.palette.bits:
        return form
    if form.scaled is not None and form.scaled.zero.any():
        return form
    sparse = replace(form, mask=form.dense != 0)
    return sparse if sparse.bytes < form.bytes else form


def _as_wide(parameters: Array, weight: Array) -> Array:
    """Scales and zero points with as many axes as the weight; those that are missing stand behind."""
    return parameters.reshape(*parameters.shape, *[1] * (weight.ndim - parameters.ndim))
