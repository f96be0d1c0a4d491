"""A file for native writers that end the process, or hide the reason, where a write fails: torch's archives."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast


class PatientFile(io.BufferedIOBase):
    """A file that takes everything, also when its disk is full: what failed first is raised when it is closed."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        self.failed: OSError | None = None

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go elsewhere in what was written so far."""
        return offset if self.failed is not None else self._stream.seek(offset, whence)

    def write(self, data: Any) -> int:
        """Write bytes, or lose them where something has failed; returns how many there are."""
        given = memoryview(data)
        if self.failed is None:
            try:
                self._stream.write(given)
            except OSError as error:
                self.failed = error
        return given.nbytes

    def close(self) -> None:
        """Close the file; what it held back may fail only now."""
        if not self.closed:
            try:
                self._stream.close()
            except OSError as error:
                self.failed = self.failed or error
        super().close()


@contextmanager
def patient(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file for such a writer. Raises OSError in the end where anything was lost."""
    stream = PatientFile(path)
    try:
        yield cast(IO[bytes], stream)  # which typeshed says of concrete classes alone
    finally:
        stream.close()
    if stream.failed is not None:
        raise stream.failed
