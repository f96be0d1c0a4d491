"""MIL's type names, the torch types that store and hold them, and the unpacking of sub-byte types."""

from __future__ import annotations

import threading
from functools import partial
from typing import Literal

import torch

from coreml_runtime.bits import unpack_bits

Precision = Literal["half", "fast", "native"]
PRECISIONS: tuple[Precision, ...] = ("half", "fast", "native")

NAMES = {
    1: "bool", 2: "string", 10: "fp16", 11: "fp32", 12: "fp64", 13: "bf16", 21: "int8", 22: "int16", 23: "int32",
    24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4", 36: "uint2",
    37: "uint1", 38: "uint6", 39: "uint3",
}  # fmt: skip
"""MIL.proto's DataType numbers."""

SUB_BYTE = {
    "uint1": (1, False), "uint2": (2, False), "uint3": (3, False), "uint4": (4, False), "uint6": (6, False),
    "int4": (4, True), "int2": (2, True),
}  # fmt: skip
"""Bits and signedness of the packed types; they are held one to a uint8 (int4 and int2: int8)."""

_STORED = {
    "bool": torch.bool, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16,
    "int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "uint8": torch.uint8,
    "uint16": torch.uint16, "uint32": torch.uint32, "uint64": torch.uint64, "complex32": torch.complex32,
    "complex64": torch.complex64, "fp8e4m3": torch.float8_e4m3fn, "fp8e5m2": torch.float8_e5m2,
    "fp8e8m0": torch.float8_e8m0fnu, "fp4e2m1": torch.float32,
}  # fmt: skip

_HELD = _STORED | {
    "bf16": torch.float32, "fp8e4m3": torch.float32, "fp8e5m2": torch.float32, "fp8e8m0": torch.float32,
    "complex32": torch.complex64, "uint16": torch.int32, "uint32": torch.int64, "uint64": torch.int64,
    **{name: torch.int8 if signed else torch.uint8 for name, (_, signed) in SUB_BYTE.items()},
}  # fmt: skip

NARROW = {
    "bf16": torch.bfloat16, "fp8e4m3": torch.float8_e4m3fn, "fp8e5m2": torch.float8_e5m2, "complex32": torch.complex32,
}  # fmt: skip
"""Types that are held in a wider one but whose results are rounded to what they can hold."""

WRAPPED = {"uint16": 0xFFFF, "uint32": 0xFFFF_FFFF}
"""Unsigned types that are held in a wider signed one, with the bits that they keep."""


def stored(dtype: str) -> torch.dtype:
    """The torch type with the same bytes as the MIL type in a file."""
    return _STORED[dtype]


def held(dtype: str, precision: Precision) -> torch.dtype:
    """The torch type that holds values of a MIL type while a program runs.

    fp16 is held in float32 unless the precision is native. uint16, uint32 and uint64 are held in a wider signed type
    (uint64 in int64), because torch computes little on unsigned types above 8 bits.
    """
    if dtype == "fp16" and precision != "native":
        return torch.float32
    return _HELD[dtype]


def round_half(value: torch.Tensor) -> torch.Tensor:
    """Float32 values rounded to the nearest that half precision has (ties to even, overflow to infinity)."""
    return value.half().float()  # of a small tensor in 0.6 of the time that `to` takes


class _Scratch(threading.local):
    """One buffer a thread for `round_half_in_place`: fresh memory would cost more than the rounding."""

    def __init__(self) -> None:
        """Allocate it on the thread's first use."""
        self.buffer = torch.empty(1 << 18, dtype=torch.float16)


scratch = _Scratch()


def round_half_in_place(value: torch.Tensor) -> torch.Tensor:
    """`round_half` in the memory of `value`, which nobody else may be looking at. Returns the rounded tensor."""
    if value.dtype is not torch.float32 or value.numel() < 1 << 15:
        return round_half(value)
    if value.is_contiguous():
        flat = value.view(-1)
    elif value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last):
        flat = value.permute(0, 2, 3, 1).view(-1)
    else:
        return round_half(value)
    buffer = scratch.buffer
    for part in torch.split(flat, buffer.numel()):
        half = buffer[: part.numel()]
        half.copy_(part)
        part.copy_(half)
    return value


def unpack(raw: torch.Tensor, dtype: str, elements: int) -> torch.Tensor:
    """`elements` values of a sub-byte type from bytes, packed least significant bit first.

    raw (bytes,) uint8 -> (elements,) uint8, or int8 for int4.
    """
    bits, signed = SUB_BYTE[dtype]
    flat = torch.from_numpy(unpack_bits(raw.numpy(), bits, elements))
    if not signed:
        return flat
    sign = 1 << (bits - 1)
    return ((flat.to(torch.int8) ^ sign) - sign).to(torch.int8)


holder = {precision: partial(held, precision=precision) for precision in PRECISIONS}
"""`held` for each precision, as kernels get it in their context."""
