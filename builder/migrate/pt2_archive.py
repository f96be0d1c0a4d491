"""Packs the text of a `.pt2` archive, of which a small model's file mostly consists; weights stay as they are."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path

_ALIGNED = 64
"""Weights begin at multiples of this, as torch writes them, so that they can be mapped into memory."""
_DATE = (1980, 1, 1, 0, 0, 0)
_HEADER = 30
"""Bytes of a local file header in front of name and extra field (APPNOTE.TXT, 4.3.7)."""
_PADDING = b"FB"
"""The extra field that torch pads with (caffe2/serialize/inline_container.cc)."""


def pack(file: Path) -> None:
    """Rewrite the archive: everything but weights and constants deflated, which torch's reader unpacks."""
    packed = file.with_name(f"{file.name}.packed")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w") as new:
        for part in old.infolist():
            entry = zipfile.ZipInfo(part.filename, _DATE)
            entry.file_size = part.file_size
            if _is_tensor(part.filename):
                entry.extra = _padding(new.start_dir, part.filename)
            else:
                entry.compress_type = zipfile.ZIP_DEFLATED
            with old.open(part) as source, new.open(entry, "w") as target:
                shutil.copyfileobj(source, target)
    packed.replace(file)


def _is_tensor(name: str) -> bool:
    """Weights and constants that torch stores as plain bytes."""
    folder, _, last = name.rpartition("/")
    return folder.endswith(("/data/weights", "/data/constants")) and last.startswith(("weight_", "tensor_"))


def _padding(start: int, name: str) -> bytes:
    """An extra field after which the content is aligned."""
    begins = start + _HEADER + len(name.encode()) + 4
    size = -begins % _ALIGNED
    return _PADDING + struct.pack("<H", size) + b"Z" * size
