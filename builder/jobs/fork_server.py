"""A process that has imported once and forks for each job: the half that runs in the server, and in its children.

Forking a process in which other threads run is not safe, so nothing is computed here before a fork: importing torch and
coremltools starts no thread of theirs, and a child starts its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from builder.jobs.jobs import Task
from builder.util.child import end_with

_PAUSE = 0.02
"""Seconds between two looks at running children."""


def serve(channel: socket.socket) -> Task | None:
    """Fork for every task that comes in, and tell how each ends, in lines of JSON; import what is asked for between.

    Returns twice: in each child with its task, for which this process is set up then; in the server with None, when the
    other end is closed. Children that still run end with the server.
    """
    server = os.getpid()
    gc.freeze()  # what is imported is never collected: no child walks it, and its pages stay shared
    waiting = b""
    began: dict[int, float] = {}
    while True:
        if b"\n" not in waiting and select.select([channel], [], [], _PAUSE if began else None)[0]:
            read = channel.recv(65_536)
            if not read:
                return None
            waiting += read
        if b"\n" in waiting:
            line, _, waiting = waiting.partition(b"\n")
            message = json.loads(line)
            if "import" in message:
                _import(message["import"])
                continue
            task = Task.from_json(line.decode())
            pid = os.fork()
            if pid == 0:
                end_with(server)
                os.setpgid(0, 0)
                channel.close()
                _become(task)
                return task
            began[pid] = time.monotonic()
            _send(channel, {"started": pid})
        for pid in list(began):
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                seconds = time.monotonic() - began.pop(pid)
                _send(channel, {"ended": pid, "status": status, "seconds": seconds, "peak": usage.ru_maxrss})


def _import(names: Sequence[str]) -> None:
    """Import modules that a job has needed; ends this process where one of them has started a thread."""
    before = _threads()
    for name in names:
        with contextlib.suppress(Exception):  # a job that needs it says what is wrong
            importlib.import_module(name)
    if _threads() > before:
        os._exit(1)
    gc.freeze()


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - their number is all


def _send(channel: socket.socket, message: dict[str, float]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


def _become(task: Task) -> None:
    """Take the streams, the environment and the folder of a task."""
    os.environ.update(task.environment)
    os.chdir(task.folder)
    sys.stdout.flush()
    sys.stderr.flush()
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, task.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, task.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        descriptor = os.open(Path(name), flags, 0o666)
        os.dup2(descriptor, number)
        os.close(descriptor)
