"""Tensors straight from a memory-mapped weight file, every offset and size checked before it is used.

A file starts with 64 bytes of header. A reference points at a record of 64 bytes: sentinel (uint32), data type
(uint32), size in bytes (uint64), offset of the data (uint64), padding in bits for sub-byte types (uint64).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import torch

from coreml_runtime.dtypes import SUB_BYTE, stored, unpack
from coreml_runtime.errors import ModelError
from coreml_runtime.mapping import Buffer, map_file, release

SENTINEL = 0xDEADBEEF
_RECORD = struct.Struct("<IIQQQ")
_RECORD_SIZE = 64
_CODES = {
    1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 5: "bf16", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1",
    10: "uint2", 11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A mapped weight file."""

    path: Path
    buffer: Buffer

    def tensor(self, *, offset: int, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The record at `offset` as a tensor of MIL type `dtype`, without a copy except for sub-byte types."""
        start, size = self._record(offset, dtype)
        elements = math.prod(shape)
        needed = (
            math.ceil(elements * SUB_BYTE[dtype][0] / 8) if dtype in SUB_BYTE else elements * stored(dtype).itemsize
        )
        if needed != size:
            raise ModelError(
                f"{self.path}: the record at {offset} holds {size} bytes, but {dtype} of shape {shape} takes {needed}"
            )
        if elements == 0:
            return torch.empty(shape, dtype=torch.uint8 if dtype in SUB_BYTE else stored(dtype))
        if dtype in SUB_BYTE:
            raw = torch.frombuffer(self.buffer, dtype=torch.uint8, count=size, offset=start)
            return unpack(raw, dtype, elements).reshape(shape)
        return torch.frombuffer(self.buffer, dtype=stored(dtype), count=elements, offset=start).reshape(shape)

    def release(self) -> None:
        """Give the pages back to the system after they were copied."""
        release(self.buffer)

    def _record(self, offset: int, dtype: str) -> tuple[int, int]:
        length = len(self.buffer)
        if offset + _RECORD_SIZE > length:
            raise ModelError(f"{self.path}: a record at {offset} lies beyond the end of the file ({length} bytes)")
        sentinel, code, size, start, _padding = _RECORD.unpack_from(self.buffer, offset)
        if sentinel != SENTINEL:
            raise ModelError(f"{self.path}: no weight record at {offset} (sentinel {sentinel:#x})")
        if _CODES.get(code) != dtype:
            raise ModelError(f"{self.path}: the record at {offset} holds {_CODES.get(code, code)}, expected {dtype}")
        if start + size > length:
            raise ModelError(
                f"{self.path}: the record at {offset} claims {size} bytes from {start}, the file ends at {length}"
            )
        return start, size


def open_weights(path: Path) -> WeightFile:
    """Map the weight file at `path`."""
    return WeightFile(path=path, buffer=map_file(path))
