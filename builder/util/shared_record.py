"""What a child process tells its parent, in memory that both share: no code can close it, and writing never waits."""

from __future__ import annotations

import mmap
import struct

_CODE = struct.Struct("<?i")
_LENGTH = struct.Struct("<I")
_DOING, _ARTIFACT, _NOTES = 64, 4096, 65_536
"""Where each text begins: its length, then its bytes."""
_SIZE = 262_144
_ENCODING = ("utf-16-le", "surrogatepass")
"""Any text of Python can be written, and cut after any unit."""


class SharedRecord:
    """The exit code of a child, what it does at the moment, the artifact that it made, and what is to be told of it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)  # anonymous and shared: what a fork writes, its parent reads

    @property
    def code(self) -> int | None:
        """The exit code that the child has come to; None before."""
        is_set, code = _CODE.unpack_from(self._memory, 0)
        return code if is_set else None

    @code.setter
    def code(self, value: int) -> None:
        _CODE.pack_into(self._memory, 0, True, value)

    @property
    def doing(self) -> str:
        """What runs now; empty where that is code of ours."""
        return self._read(_DOING)

    @doing.setter
    def doing(self, text: str) -> None:
        self._write(_DOING, text, _ARTIFACT)

    @property
    def artifact(self) -> str:
        """The path of the artifact that a build has published; empty before."""
        return self._read(_ARTIFACT)

    @artifact.setter
    def artifact(self, path: str) -> None:
        self._write(_ARTIFACT, path, _NOTES)

    @property
    def notes(self) -> list[str]:
        """What the parent shall say in the end."""
        return self._read(_NOTES).splitlines()

    def note(self, line: str) -> None:
        """Add a line; where there is no room for more, those that are there are enough."""
        self._write(_NOTES, f"{self._read(_NOTES)}{line}\n", _SIZE)

    def _read(self, place: int) -> str:
        (length,) = _LENGTH.unpack_from(self._memory, place)
        start = place + _LENGTH.size
        return self._memory[start : min(start + length, _SIZE)].decode(*_ENCODING)

    def _write(self, place: int, text: str, end: int) -> None:
        start = place + _LENGTH.size
        content = text.encode(*_ENCODING)[: (end - start) // 2 * 2]
        self._memory[start : start + len(content)] = content
        _LENGTH.pack_into(self._memory, place, len(content))
