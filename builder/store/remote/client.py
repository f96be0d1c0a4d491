"""Asks a remote store through a process of its own, which is ended when an answer takes too long.

Libraries of cloud providers start threads, retry, and can hang in native code; a build forks, and stops at once when
it is asked to. So they run elsewhere, and no build imports them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Seconds that an answer may take besides the time that its bytes take."""
RATE = 256_000
"""Bytes a second that a remote store gives or takes at least."""
_START = 30.0
"""Seconds that the process may take to import the protocol's package, on a machine that does much else."""
_LOOK = 0.1


class OutageError(Exception):
    """The remote store does not answer, answers too slowly, or refuses."""


class Client:
    """A connection that is opened by the first request, and again in a fork of the process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._rest = b""

    def get(self, name: str, target: Path, *, most: int, seconds: float = math.inf) -> bool:
        """Write a file of at most `most` bytes to `target`, False where there is none. Raises OutageError.

        With `seconds` it must be there by then, however many bytes it has.
        """

        def allowed() -> float:
            size = target.stat().st_size if target.exists() else 0
            if size > most:
                raise OutageError(f"{name} is larger than {most} bytes")
            return min(PATIENCE + size / RATE, seconds)

        return bool(self._ask("get", name, target, allowed))

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none, -1 where nobody knows. Raises OutageError."""
        found: int | None = self._ask("size", name, Path(), lambda: PATIENCE)
        return found

    def put(self, source: Path, name: str) -> None:
        """Write a file. Raises OutageError."""
        seconds = PATIENCE + source.stat().st_size / RATE
        self._ask("put", name, source, lambda: seconds)

    def close(self) -> None:
        """End the process at once, whatever it does."""
        process, self._process = self._process, None
        self._rest = b""
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _ask(self, what: str, name: str, file: Path, allowed: Callable[[], float]) -> Any:
        try:
            process = self._started()
            assert process.stdin is not None
            process.stdin.write(json.dumps({"do": what, "name": name, "file": str(file)}).encode() + b"\n")
            process.stdin.flush()
            answer = self._answer(process, allowed)
        except BrokenPipeError as error:
            self.close()
            raise OutageError("the process that asks it has ended") from error
        except BaseException:  # the next answer would be that to this question
            self.close()
            raise
        if "error" in answer:
            raise OutageError(answer["error"])
        return answer["value"]

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid():
            return self._process
        self._owner, self._rest = os.getpid(), b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "builder.store.remote", "serve", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        answer = self._answer(self._process, lambda: _START)
        if "error" in answer:
            raise OutageError(answer["error"])
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], allowed: Callable[[], float]) -> dict[str, object]:
        """The next line of the process; raises OutageError where it takes longer than is allowed by then."""
        assert process.stdout is not None
        began = time.monotonic()
        while b"\n" not in self._rest:
            if select.select([process.stdout], [], [], _LOOK)[0]:
                more = os.read(process.stdout.fileno(), 65_536)
                if not more:
                    raise OutageError("the process that asks it has ended")
                self._rest += more
            elif time.monotonic() - began > allowed():
                raise OutageError(f"no answer, or too slow a one, within {time.monotonic() - began:.0f} s")
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, object] = json.loads(line)
        return answer
