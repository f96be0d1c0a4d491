"""Files mapped into memory: read where they lie, and given back to the system when what is needed was copied."""

from __future__ import annotations

import mmap
from pathlib import Path

from coreml_runtime.errors import ModelError

Buffer = bytes | mmap.mmap


def map_file(path: Path) -> Buffer:
    """The file's bytes. The mapping is private, so nothing that is done to it can change the file."""
    try:
        with path.open("rb") as file:
            empty = path.stat().st_size == 0
            return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be mapped: {error}") from error


def release(buffer: Buffer) -> None:
    """Give the pages back to the system; they are read again from the file if needed."""
    if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        buffer.madvise(mmap.MADV_DONTNEED)
