"""Commands of tests in processes of their own, without the seconds that each takes to import torch and coremltools.

`python()` is a program that takes what Python takes. A server that has imported once forks for each command; what a
fork cannot have (another hash seed, options of the interpreter) is run by the real Python. Tests of starting itself, of
other copies of builder, of limits of the system and of kills use the real Python always.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent
_VARIABLE = "TESTS_PYTHON"


def python() -> str:
    """The program to run Python code with in a process of its own."""
    return os.environ.get(_VARIABLE, sys.executable)


class Server:
    """The server of one run of pytest, for all of its workers; it imports when the first command comes."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-", dir="/tmp"))  # the address of a socket must be short
        address, program = self._folder / "socket", self._folder / "python"
        client = [sys.executable, "-IS", str(_HERE / "client.py"), str(address), str(program)]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
        program.chmod(0o755)
        command = [sys.executable, str(_HERE / "server.py"), str(address)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(each) for each in _roots())}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, process_group=0
        )
        os.environ[_VARIABLE] = str(program)

    def stop(self) -> None:
        """End the server, and what it still runs."""
        del os.environ[_VARIABLE]
        self._process.communicate()
        shutil.rmtree(self._folder)


def _roots() -> tuple[Path, Path]:
    root = _HERE.parents[1]
    return root, root / "runtime"
