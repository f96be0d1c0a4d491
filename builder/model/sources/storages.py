"""Compares the sizes that an archive's pickles say their tensors have with what the archive has of them.

Torch's readers take the number of elements from the pickle and the bytes from another part, and compare neither
(`Unpickler::readInstruction` in unpickler.cpp, `get_storage_from_record` in torch/csrc/jit/python/init.cpp): where
there are fewer bytes, the tensor has what lies behind them in memory, or the process crashes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import torch

from builder.model.sources.archives import Archive, RefusedArchiveError, first_line

_WIDEST = 16
"""Bytes of an element of the widest dtype, complex128."""

_MOST = 1 << 24
"""Bytes of a pickle: names and sizes of a thousand tensors are 0.15 MB, a vocabulary in a script some MB."""


def refuse_short_storages(archive: Archive, name: str, folder: str) -> None:
    """Raise RefusedArchiveError unless `folder` has all bytes of each storage that the pickle `name` refers to."""
    content = archive.read(name)
    if len(content) > _MOST:
        raise RefusedArchiveError(f"its part {name} has {len(content)} bytes")
    for key, size in sizes_of_storages(content):
        if archive.sizes.get(f"{folder}{key}", -1) < size:
            what = f"is missing, or has less than the {size} bytes of its tensor"
            raise RefusedArchiveError(f"its part {folder}{key} {what}")


def sizes_of_storages(content: bytes) -> Sequence[tuple[str, int]]:
    """The key and the bytes of each storage that a pickle refers to; raises RefusedArchiveError where it is damaged."""
    reader = _Reader(io.BytesIO(content), encoding="bytes")
    try:
        reader.load()
    except Exception as error:  # what a stand-in does not do, no pickle of torch asks for
        raise RefusedArchiveError(f"a pickle of it is damaged: {first_line(error)}") from error
    return reader.storages


class _Inert:
    """Stands for every class and function: takes anything, does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None:
        """Drop it."""

    def extend(self, values: object) -> None:
        """Drop them."""


class _Reader(pickle._Unpickler):  # the one in C makes room for any number of a memo
    """Runs nothing: whatever a pickle names is the stand-in; notes the key and the bytes of each storage."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.storages: list[tuple[str, int]] = []

    def find_class(self, module: str, name: str) -> type[_Inert]:
        return type(name if isinstance(name, str) else "_", (_Inert,), {"__module__": str(module)})

    def persistent_load(self, pid: Any) -> _Inert:
        kind, storage, key, _, elements = pid
        if kind not in ("storage", b"storage") or type(elements) is not int or elements < 0:
            raise ValueError(f"{kind!r} is not a storage")
        key = key.decode() if isinstance(key, bytes) else key
        self.storages.append((str(key), elements * _bytes_of_element(storage.__name__)))
        return _Inert()


def _bytes_of_element(storage: str) -> int:
    """Of a storage class such as `FloatStorage`; an unknown one counts as the widest."""
    known = torch.storage._storage_type_to_dtype_map()
    dtype = known.get(storage, getattr(torch, storage.removesuffix("Storage").lower(), None))
    if isinstance(dtype, torch.dtype):
        return dtype.itemsize
    return 1 if storage == "UntypedStorage" else _WIDEST
