"""Has the server run a Python command with this process's open files, folder and variables, and ends as that ends.

`client.py ADDRESS PROGRAM [ARGUMENT …]`: PROGRAM is what this was called as, for processes that the command starts.
"""

import json
import os
import signal
import socket
import sys


def main(address: str, program: str, *arguments: str) -> None:
    """Run a command and end as it ended."""
    files = [number for number in map(int, os.listdir("/proc/self/fd")) if is_open(number)]  # noqa: PTH208 - pathlib
    folder = os.getcwd()  # noqa: PTH109 - takes longer to import than all the rest
    request = {
        "program": program, "arguments": arguments, "folder": folder, "variables": dict(os.environ), "files": files,
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: server.send(bytes([number])))
        socket.send_fds(server, [json.dumps(request).encode()], files)
        code = os.waitstatus_to_exitcode(int(server.recv(100)))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def is_open(number: int) -> bool:
    """Whether a file is open, as the one that lists them is not any more."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
