"""A process without a network: a namespace of its own where the system offers one, and refused calls everywhere."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
from pathlib import Path
from typing import Any

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
_LOCAL = getattr(socket, "AF_UNIX", None)


class NetworkRefusedError(OSError):
    """Something asked for the network in a process that must do without."""


def cut_network() -> str:
    """Take the network away from this process for good, and say how: `namespace` or `refused calls`.

    The namespace (Linux, unshare(2)) holds native code off as well; it needs unprivileged user namespaces, or root.
    """
    namespace = _own_namespace()
    sys.addaudithook(_refuse)
    return "namespace" if namespace else "refused calls"


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS:
        return
    if event == "socket.connect" and _LOCAL is not None and arguments[0].family == _LOCAL:
        return
    where = arguments[0] if isinstance(arguments[0], str) else arguments[-1]
    raise NetworkRefusedError(f"a release is built without a network, and something asked for {where}")


def _own_namespace() -> bool:
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if library.unshare(_CLONE_NEWNET) == 0:
        return True
    if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with contextlib.suppress(OSError):  # stay who we are; a process without a map is "nobody", and builds as well
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    return True
