"""Jobs as forks of a process that has imported torch and coremltools once: the half that runs in the sweep."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from builder.jobs.jobs import Exit, Task
from builder.jobs.process import PEAK_UNIT


class ForkServer:
    """A running server. It and its children are in groups of their own, so that a Ctrl-C reaches them through us."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                env={**os.environ, **environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        self._rest = b""
        self._started: list[int] = []
        self._exits: dict[int, Exit] = {}
        self._lost = False

    def start(self, task: Task) -> Fork:
        """Run a task in a child of the server; raises ConnectionError where the server is gone."""
        self._channel.sendall(task.to_json().encode() + b"\n")
        while not self._started:
            self._listen()
            if self._lost:
                raise ConnectionError("the process that forks for jobs is gone")
        return Fork(self, self._started.pop())

    def preload(self, modules: Sequence[str]) -> None:
        """Have the server import modules before it forks again; where one starts a thread, the server ends instead."""
        with contextlib.suppress(OSError):  # it is gone, as the next start will find
            self._channel.sendall(json.dumps({"import": list(modules)}).encode() + b"\n")

    def exit_of(self, pid: int) -> Exit | None:
        """Return how a child ended, None while it runs."""
        while pid not in self._exits and not self._lost and select.select([self._channel], [], [], 0)[0]:
            self._listen()
        if pid not in self._exits and self._lost:  # nobody can tell how this child fares
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            return Exit(code=-signal.SIGKILL, seconds=0.0, summary="the process that it was forked from was killed")
        return self._exits.pop(pid, None)

    def close(self) -> None:
        """End the server."""
        self._channel.close()
        self._process.wait()

    def kill(self) -> None:
        """End the server at once, whatever it does; children that run end with it."""
        self._process.kill()
        self.close()

    def _listen(self) -> None:
        """Take in what the server says next."""
        try:
            received = self._channel.recv(65_536)
        except ConnectionError:
            received = b""
        self._lost = not received
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            answer: dict[str, Any] = json.loads(line)
            if "started" in answer:
                self._started.append(answer["started"])
                continue
            code = os.waitstatus_to_exitcode(answer["status"])
            peak = answer["peak"] * PEAK_UNIT
            self._exits[answer["ended"]] = Exit(code=code, seconds=answer["seconds"], peak_bytes=peak)


class Fork:
    """A running job."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._server = server
        self._has_ended = False

    def ended(self) -> Exit | None:
        """Return how it ended, None while it runs; not to be asked again afterwards."""
        found = self._server.exit_of(self.pid)
        self._has_ended = found is not None
        return found

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and everything that it started."""
        if not self._has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def can_fork() -> bool:
    """Whether a process that has loaded torch may fork: on macOS its mathematics library does not survive that."""
    return sys.platform == "linux"
