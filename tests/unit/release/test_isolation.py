"""A process without a network reaches nothing, not even itself, with a namespace and without one."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.unit.release.project import REPOSITORY

CONNECT = """
import socket, sys
from builder.release import isolation
if sys.argv[2] == "no namespace":
    isolation._own_namespace = lambda: False
print(isolation.cut_network())
for attempt in (
    lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5),
    lambda: socket.getaddrinfo("localhost", 80),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(sys.argv[1]))),
):
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__)
    else:
        print("reached")
one, other = socket.socketpair()
one.sendall(b"x")
print(other.recv(1))
"""


@pytest.mark.parametrize("mode", ["as the system allows", "no namespace"])
def test_nothing_is_reached(mode: str) -> None:
    # given a server on this machine
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        # when a process without a network tries to reach it, look up a name, and send a datagram
        done = subprocess.run(
            [sys.executable, "-c", CONNECT, port, mode], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
    # then each is refused, and sockets within the process still work
    assert done.returncode == 0, done.stderr
    how, *attempts, pair = done.stdout.splitlines()
    assert how == "refused calls" if mode == "no namespace" else how in ("namespace", "refused calls")
    assert attempts == ["NetworkRefusedError"] * 3
    assert pair == "b'x'"
