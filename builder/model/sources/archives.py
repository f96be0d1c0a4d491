"""ZIP archives of torch, opened by torch's own reader and bounded before anything in them is interpreted."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import IO, Any

import torch

MOST_TEXT = 1 << 28
"""Bytes of one part that is parsed: code, JSON or a pickle; the largest known graphs have a tenth of that."""

_MOST_INFLATED = 1 << 30
"""Bytes by which all parts may exceed the file: torch compresses code and nothing else."""

_MOST_PARTS = 1_000_000

_MOST_SHOWN = 300
"""Characters of an error of torch's, some of which repeat a whole node of a graph."""


class RefusedArchiveError(Exception):
    """An archive that would run code, reach files or is not what torch writes; nothing of it was loaded."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        """What to do, where that is known of this archive."""


class Archive:
    """The parts of an archive by name, as torch's loaders find them: the same reader, so that both see the same."""

    def __init__(self, stream: IO[bytes]) -> None:
        try:
            self._reader: Any = torch._C.PyTorchFileReader(stream)
            self.names: Sequence[str] = tuple(self._reader.get_all_records())
            self.sizes: Mapping[str, int] = {name: int(self._reader.get_record_size(name)) for name in self.names}
        except (RuntimeError, ValueError, OSError) as error:
            raise RefusedArchiveError(f"it is damaged: {first_line(error)}") from error
        if len(self.names) > _MOST_PARTS:
            raise RefusedArchiveError(f"it has {len(self.names)} parts")
        if len(set(self.names)) < len(self.names):
            raise RefusedArchiveError("two of its parts have one name")
        size = stream.seek(0, os.SEEK_END)
        if sum(self.sizes.values()) > size + _MOST_INFLATED:
            raise RefusedArchiveError("unpacked it would be more than 1 GB larger than it is")

    def refuse_unknown_parts(self, known: re.Pattern[str]) -> None:
        """Raise RefusedArchiveError where a part's name is not one that `known` describes."""
        for name in self.names:
            if known.fullmatch(name) is None:
                raise RefusedArchiveError(f"it has a part {name!r}, which is not read")

    def read(self, name: str) -> bytes:
        """The content of a part that is parsed; raises RefusedArchiveError where it is missing, damaged or huge."""
        size = self.sizes.get(name)
        if size is None:
            raise RefusedArchiveError(f"its part {name} is missing")
        if size > MOST_TEXT:
            raise RefusedArchiveError(f"its part {name} has {size} bytes")
        try:
            return bytes(self._reader.get_record(name))
        except RuntimeError as error:
            raise RefusedArchiveError(f"its part {name} is damaged: {first_line(error)}") from error

    def read_json(self, name: str) -> Any:
        """A part that is JSON."""
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise RefusedArchiveError(f"its part {name} is damaged: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, which for torch's own is the part that says what happened; at most 300."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}…"
