"""Whatever a user's code does to the process is told as what it did; exit code 0 stands for an artifact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm

RECIPE = """\
schema: 1
defaults: [precision: fp32, target: ios16, checks: none, tracking: none]
source: {kind: python, factory: net:make}
input:
  x: {kind: tensor, shape: [1, 8]}
"""


def start(folder: Path, body: str, program: str = sys.executable) -> subprocess.Popen[str]:
    (folder / "recipes").mkdir()
    (folder / "recipes/r.yaml").write_text(RECIPE)
    (folder / "net.py").write_text(f"import os, signal, ctypes, time\ndef make():\n    {body}\n")
    return subprocess.Popen(
        [program, "-m", "builder", "recipe=r", "-q"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "BUILDER_CACHE": str(folder / "cache"), "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("os._exit(0)", 3, "os._exit(0)"),
        ("os._exit(7)", 3, "os._exit(7)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 7, "SIGKILL"),
        ("os.abort()", 3, "SIGABRT"),
        ("ctypes.string_at(0)", 3, "SIGSEGV"),
    ],
)
def test_code_that_ends_the_process_is_told(body: str, code: int, said: str, tmp_path: Path) -> None:
    process = start(tmp_path, body, warm.python())
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, ""), err
    assert said in err
    assert "while calling net:make" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_never_ends_is_ended(number: int, tmp_path: Path) -> None:
    # given native code that hears no signal
    mark = tmp_path / "running"
    body = f"open({str(mark)!r}, 'w'); ctypes.PyDLL(None).sleep(99)"  # which holds Python's lock
    process = start(tmp_path, body)
    until = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.05)
    # when
    started = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)
    # then
    assert process.returncode == 130
    assert time.monotonic() - started < 4  # two seconds, on a machine that does other things as well
