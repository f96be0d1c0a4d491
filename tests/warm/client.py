"""Has the server run a Python command with this process's streams, folder and variables, and ends as that ends.

`client.py ADDRESS PROGRAM [ARGUMENT …]`: PROGRAM is what this was called as, for processes that the command starts.
"""

import json
import os
import signal
import socket
import sys


def main(address: str, program: str, *arguments: str) -> None:
    """Run a command and end as it ended."""
    folder = os.getcwd()  # noqa: PTH109 - pathlib takes longer to import than all the rest
    request = {"program": program, "arguments": arguments, "folder": folder, "variables": dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: server.send(bytes([number])))
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        code = os.waitstatus_to_exitcode(int(server.recv(100)))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
