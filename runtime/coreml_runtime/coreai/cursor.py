"""Reads numbers and blobs from bytes and checks every length: a damaged file ends in a ModelError."""

from __future__ import annotations

from coreml_runtime.errors import ModelError
from coreml_runtime.mapping import Buffer


class Cursor:
    """A position in `data` that may not pass `end`."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: Buffer, position: int, end: int) -> None:
        """Start at `position`; `end` lies within the data."""
        if not 0 <= position <= end <= len(data):
            raise ModelError(f"a part of {end - position} bytes at {position} of {len(data)} bytes")
        self.data, self.position, self.end = data, position, end

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return self.end - self.position

    def byte(self) -> int:
        """The next byte."""
        if self.position >= self.end:
            raise ModelError(f"the data ends at byte {self.end} in the middle of a value")
        value = self.data[self.position]
        self.position += 1
        return value

    def skip(self, size: int) -> int:
        """Pass `size` bytes; returns where they begin."""
        if not 0 <= size <= self.left:
            raise ModelError(f"{size} bytes are announced at byte {self.position}, {self.left} are left")
        begin = self.position
        self.position += size
        return begin

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        begin = self.skip(size)
        return bytes(self.data[begin : self.position])

    def integer(self) -> int:
        """An unsigned integer of 1 to 9 bytes: as many zero bits as further bytes, a one, then the value."""
        first = self.byte()
        if first & 1:
            return first >> 1
        further = 8 if first == 0 else (first & -first).bit_length() - 1
        rest = int.from_bytes(self.take(further), "little")
        return rest if first == 0 else (rest << 8 | first) >> (further + 1)

    def signed(self) -> int:
        """A signed integer: the sign is the lowest bit (zigzag)."""
        value = self.integer()
        return (value >> 1) ^ -(value & 1)

    def flagged(self) -> tuple[int, bool]:
        """An integer whose lowest bit is a flag."""
        value = self.integer()
        return value >> 1, bool(value & 1)

    def count(self) -> int:
        """A number of entries, of which each takes a byte at least."""
        value = self.integer()
        if value > self.left:
            raise ModelError(f"{value} entries are announced at byte {self.position}, {self.left} bytes are left")
        return value

    def index(self, size: int, what: str) -> int:
        """A place in a table of `size` entries."""
        value = self.integer()
        if value >= size:
            raise ModelError(f"{what} {value} is used, there are {size}")
        return value

    def text(self) -> str:
        """Text that ends with a zero byte."""
        begin = self.position
        while self.byte():
            pass
        return decode(bytes(self.data[begin : self.position - 1]))


def decode(raw: bytes) -> str:
    """UTF-8 text."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"a text is damaged: {error}") from error
