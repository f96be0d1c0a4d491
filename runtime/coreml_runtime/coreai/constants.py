"""The constants of an asset as tensors on its mapped file."""

from __future__ import annotations

import math

import torch

from coreml_runtime.coreai.dialect import Attribute, Blob, Dense
from coreml_runtime.coreai.graphs import Program
from coreml_runtime.dtypes import SUB_BYTE, stored, unpack
from coreml_runtime.errors import ModelError
from coreml_runtime.limits import check_size
from coreml_runtime.ops.context import TensorType

_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The magnitudes of fp4e2m1 (OCP Microscaling Formats, table 5); the highest of the four bits is the sign."""


def read_constant(program: Program, attribute: Attribute, declared: TensorType) -> torch.Tensor:
    """The tensor of a constant; sub-byte integers one to a byte. ModelError where size and type do not agree."""
    shape = tuple(size for size in declared.shape if size is not None)
    if len(shape) != len(declared.shape):
        raise ModelError(f"a constant of the unknown shape {declared.shape}")
    check_size(declared, "a constant")
    elements = math.prod(shape)
    if isinstance(attribute, Dense):
        flat = _dense(program, attribute, declared.dtype, elements)
        return flat.reshape(()).expand(shape).contiguous() if flat.numel() == 1 else flat.reshape(shape)
    if isinstance(attribute, Blob):
        return _blob(program, attribute, declared.dtype, elements).reshape(shape)
    raise ModelError(f"a constant holds {attribute!r}")


def stored_bytes(program: Program, attribute: Attribute) -> int:
    """How many bytes of the file a constant takes."""
    if isinstance(attribute, Dense):
        begin, end = attribute.span
    elif isinstance(attribute, Blob):
        begin, end = program.container.resources[attribute.resource].span
    else:
        raise ModelError(f"a constant holds {attribute!r}")
    return end - begin


def _dense(program: Program, attribute: Dense, dtype: str, elements: int) -> torch.Tensor:
    """Elements in the table of attributes: each in whole bytes, but for uint1, which is packed unless it is a splat."""
    begin, end = attribute.span
    bits = _bits(dtype)
    packed = bits == 1 and not attribute.splat
    size = 1 if bits else stored(dtype).itemsize
    expected = {math.ceil(elements / 8)} if packed else {elements * size}
    if end - begin not in (expected | {size} if attribute.splat else expected):
        raise ModelError(f"{end - begin} bytes are stored for {elements} elements of {dtype}")
    if begin == end:
        return torch.empty(0, dtype=_plain(dtype))
    raw = torch.frombuffer(bytearray(program.container.data[begin:end]), dtype=torch.uint8)
    if bits is None:
        return raw.view(stored(dtype))
    if packed:
        return unpack(raw, dtype, elements)
    return _values(raw & ((1 << bits) - 1), dtype, bits)


def _blob(program: Program, attribute: Blob, dtype: str, elements: int) -> torch.Tensor:
    """Elements in a resource: sub-byte types are packed, the least significant bits first."""
    begin, end = program.container.resources[attribute.resource].span
    bits = _bits(dtype)
    needed = math.ceil(elements * bits / 8) if bits else elements * stored(dtype).itemsize
    if end - begin != needed:
        raise ModelError(f"{end - begin} bytes are stored for {elements} elements of {dtype}")
    if not elements:
        return torch.empty(0, dtype=_plain(dtype))
    raw = torch.frombuffer(program.container.data, dtype=torch.uint8, count=needed, offset=begin)
    if bits is None:
        return raw.view(stored(dtype))
    return _values(unpack(raw, f"uint{bits}", elements), dtype, bits)


def _bits(dtype: str) -> int | None:
    """Bits of a type that is smaller than a byte."""
    return 4 if dtype == "fp4e2m1" else SUB_BYTE[dtype][0] if dtype in SUB_BYTE else None


def _plain(dtype: str) -> torch.dtype:
    return torch.uint8 if _bits(dtype) else stored(dtype)


def _values(codes: torch.Tensor, dtype: str, bits: int) -> torch.Tensor:
    """What unsigned codes of `bits` bits mean."""
    if dtype == "fp4e2m1":
        magnitudes = torch.tensor((*_FP4, *(-each for each in _FP4)))
        return magnitudes[codes.long()]
    if not SUB_BYTE[dtype][1]:
        return codes
    sign = 1 << (bits - 1)
    return ((codes.to(torch.int8) ^ sign) - sign).to(torch.int8)
