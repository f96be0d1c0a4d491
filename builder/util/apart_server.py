"""A fresh interpreter that forks the supervisors of `builder.util.apart`: for programs that cannot fork themselves.

It is started once a program, imports what builds import, and ends with the program.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from builder.errors import UnfitEnvironmentError
from builder.util.apart import Place, Send, _Supervisor, supervise
from builder.util.child import end_with

PRELOADED: list[str] = []
"""Modules that a server imports before it forks, named by whoever knows what will be called."""

_LOCK = threading.Lock()
_servers: dict[int, _Server] = {}
"""By the process that started it: a fork of a program does not share its server."""


def started(work: Callable[[Send], object], channel: socket.socket) -> _Supervisor:
    """Have the server start a supervisor, which talks to the other end of `channel`."""
    request = pickle.dumps((Place.here(), work))
    with _LOCK:
        for again in (True, False):
            server = _servers.get(os.getpid()) or _Server(PRELOADED)
            _servers[os.getpid()] = server
            try:
                return _Supervisor(server.start(request, channel), is_child=False)
            except (OSError, EOFError) as error:  # it was killed: another one is started, once
                server.close()
                del _servers[os.getpid()]
                if not again:
                    raise UnfitEnvironmentError(
                        "the process that runs builds cannot be started", code="B0706"
                    ) from error
    raise AssertionError


@atexit.register
def _close() -> None:
    """End the server of this process, where it has one."""
    server = _servers.pop(os.getpid(), None)
    if server is not None:
        server.close()


class _Server:
    """The caller's end."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._channel, theirs = socket.socketpair(type=socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "builder.util.apart_server", str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # a Ctrl-C reaches it through us alone
                env={**os.environ, "PYTHONPATH": os.pathsep.join(Place.here().path)},
            )

    def start(self, request: bytes, channel: socket.socket) -> int:
        """The process id of a new supervisor; raises OSError or EOFError where the server is gone."""
        head = len(request).to_bytes(8, "little")
        socket.send_fds(self._channel, [head], [channel.fileno()])
        self._channel.sendall(request)
        return int.from_bytes(_exactly(self._channel, 8), "little")

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


def _exactly(channel: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        part = channel.recv(size - len(read))
        if not part:
            raise EOFError
        read += part
    return read


def serve(channel: socket.socket) -> None:
    """Fork for each request until the other end is closed."""
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a supervisor ended
    server = os.getpid()
    while True:
        head, descriptors, _, _ = socket.recv_fds(channel, 8, 1)
        if not head:
            return
        head += _exactly(channel, 8 - len(head))
        request = _exactly(channel, int.from_bytes(head, "little"))
        with socket.socket(fileno=descriptors[0]) as answers:
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(BaseException):
                    _supervise(server, request, answers)
                os._exit(0)
        channel.sendall(pid.to_bytes(8, "little"))


def _supervise(server: int, request: bytes, answers: socket.socket) -> None:
    end_with(server)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    loaded: tuple[Place, Any] = pickle.loads(request)
    place, work = loaded
    place.enter()
    supervise(work, answers)


def main(arguments: Sequence[str]) -> None:
    """Import modules and serve."""
    descriptor, *modules = arguments
    for name in modules:
        with contextlib.suppress(ImportError):  # a build that needs it says so itself
            importlib.import_module(name)
    with socket.socket(fileno=int(descriptor)) as channel:
        serve(channel)


if __name__ == "__main__":
    main(sys.argv[1:])
