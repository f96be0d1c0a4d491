"""Forks for every command that a client sends, after it has imported what commands need; ends with its standard input.

Nothing is computed here before a fork: importing starts no thread, and a child starts its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ALSO = ("coreml_runtime", "mlflow", "torchvision")
"""What commands of tests import beside what the builds of a sweep share."""
_LARGEST = 1 << 20
"""Bytes of a request."""
_MOST, _HIGH = 32, 500
"""Open files of a client; and a number that none of them has."""


def main(address: str) -> None:
    """Serve until standard input ends; in a child, run its command instead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, selectors.DefaultSelector() as waiting:
        listener.bind(address)
        listener.listen(64)
        waiting.register(listener, selectors.EVENT_READ)
        waiting.register(sys.stdin.fileno(), selectors.EVENT_READ)
        request = _serve(listener, waiting)
    if request is not None:
        _run(request["arguments"])


def _serve(listener: socket.socket, waiting: selectors.BaseSelector) -> dict[str, Any] | None:
    """Return the request in each child, None in the server when its input has ended."""
    is_warm = False
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                if not is_warm:
                    _import()
                    is_warm = True
                request = _fork(listener, waiting)
                if request is not None:
                    return request
            elif key.data is None:
                for each in waiting.get_map().values():
                    if isinstance(each.data, tuple):
                        _end(each.data[0])
                return None
            elif not isinstance(key.fileobj, socket.socket):
                _report(key, waiting)
            elif key.fileobj.fileno() >= 0:  # else its child has ended meanwhile
                _pass_on(key.fileobj, key.data, waiting)


def _import() -> None:
    from builder.cli.sweep_worker import import_shared
    from builder.model.torchvision_import import import_torchvision

    import_shared()
    import_torchvision()
    for name in ALSO:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _fork(listener: socket.socket, waiting: selectors.BaseSelector) -> dict[str, Any] | None:
    """Fork for the next client; return its request in the child."""
    client, _ = listener.accept()
    text, files, _, _ = socket.recv_fds(client, _LARGEST, _MOST)
    child = os.fork()
    if child == 0:
        request: dict[str, Any] = json.loads(text)
        os.setpgid(0, 0)
        for each in (client, *(key.fileobj for key in waiting.get_map().values() if key.fd)):
            each.close() if isinstance(each, socket.socket) else os.close(each)
        waiting.close()
        os.closerange(0, 3)
        for number, file in zip(request["files"], _moved(files), strict=True):
            os.dup2(file, number)
            os.close(file)
        _become(request)
        return request
    with contextlib.suppress(OSError):  # it did so itself
        os.setpgid(child, child)
    for file in files:
        os.close(file)
    waiting.register(client, selectors.EVENT_READ, child)
    waiting.register(os.pidfd_open(child), selectors.EVENT_READ, (child, client))
    return None


def _moved(files: Sequence[int]) -> list[int]:
    """The same open files under numbers that no client has."""
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, _HIGH) for file in files]
    for file in files:
        os.close(file)
    return moved


def _pass_on(client: socket.socket, child: int, waiting: selectors.BaseSelector) -> None:
    """Send a child the signal that its client got; where the client is gone, the child goes too."""
    number = client.recv(1)
    if number:
        os.kill(child, number[0])
    else:
        waiting.unregister(client)
        _end(child)


def _end(child: int) -> None:
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(child, signal.SIGKILL)


def _report(key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> None:
    """Let a client know how its child ended."""
    child, client = key.data
    waiting.unregister(key.fileobj)
    os.close(key.fd)
    _, status = os.waitpid(child, 0)
    if client in waiting.get_map():
        waiting.unregister(client)
        with contextlib.suppress(OSError):  # it is gone
            client.send(str(status).encode())
    client.close()


def _become(request: dict[str, Any]) -> None:
    """Take the folder and the variables of a client, and what Python makes of them when it starts.

    Where that cannot be had any more, this process becomes the real Python.
    """
    inherited = len(os.environ["PYTHONPATH"].split(os.pathsep))
    before = _settings()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    first = next(iter(request["arguments"]), "-")
    if _settings() != before or (first.startswith("-") and first not in ("-c", "-m")):
        os.execv(sys.executable, [sys.executable, *request["arguments"]])
    sys.executable = request["program"]
    given = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[1 : 1 + inherited] = given
    importlib.invalidate_caches()
    time.tzset()
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    tempfile.tempdir = None
    if "sitecustomize" not in sys.modules and importlib.util.find_spec("sitecustomize"):
        importlib.import_module("sitecustomize")


def _settings() -> dict[str, str]:
    """Variables that Python reads when it starts, but for those that a fork can heed."""
    named = {name for name in os.environ if name.startswith("PYTHON")} - {"PYTHONPATH", "PYTHONFAULTHANDLER"}
    return {name: os.environ[name] for name in named}


def _run(arguments: Sequence[str]) -> None:
    """Run `-c CODE`, `-m MODULE` or a file, with what follows as its arguments."""
    first, *rest = arguments
    if first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(module))
    elif first == "-m":
        sys.argv, sys.path[0] = ["-m", *rest[1:]], str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).absolute().parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
