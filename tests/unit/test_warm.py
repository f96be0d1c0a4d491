"""The Python that tests run commands with does what the real one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.jobs.forks import can_fork
from tests import warm

pytestmark = pytest.mark.skipif(not can_fork(), reason="where nothing can fork, the real one is used")

SCRIPT = """
import os, sys, time
print(sys.argv, os.getcwd(), sys.path[:2], os.environ.get("GREETING"), time.strftime("%Z"), __name__)
print(sys.stdin.read(), file=sys.stderr)
sys.exit(7)
"""


@pytest.mark.parametrize("how", ["code", "module", "file"])
def test_a_command_sees_and_gives_what_it_would_without_us(how: str, tmp_path: Path) -> None:
    # given a folder in which code is, and one in front of what is imported
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = {"code": ["-c", SCRIPT], "module": ["-m", "script"], "file": ["script.py"]}[how]
    variables = {**os.environ, "GREETING": "hello", "TZ": "Asia/Tokyo", "PYTHONPATH": str(tmp_path / "elsewhere")}
    # when it is run by both
    found, wanted = (
        subprocess.run(
            [program, *arguments, "an argument", "--option"],
            cwd=tmp_path, env=variables, input="typed", capture_output=True, text=True, check=False,
        )
        for program in (warm.python(), sys.executable)
    )  # fmt: skip
    # then
    assert wanted.returncode == 7
    assert (found.returncode, found.stdout, found.stderr) == (wanted.returncode, wanted.stdout, wanted.stderr)


def test_what_a_folder_wants_at_the_start_is_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.early = 5\n")
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.check_output([warm.python(), "-c", "print(early)"], env=variables, text=True)
    assert found == "5\n"


def test_files_that_are_passed_have_the_numbers_that_they_had(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as one, (tmp_path / "more").open("w") as other:
        numbers = (one.fileno(), other.fileno())
        code = f"import os; [os.write(n, str(n).encode()) for n in {numbers}]"
        subprocess.run([warm.python(), "-c", code], pass_fds=numbers, check=True)
    assert [(tmp_path / name).read_text() for name in ("out", "more")] == [str(number) for number in numbers]


def test_it_has_imported_what_builds_need_unless_the_command_wants_another_start() -> None:
    code = "import sys; print('coremltools' in sys.modules, hash('a'), sys.executable)"
    one, other, real = (
        subprocess.check_output([warm.python(), "-c", code], env={**os.environ, **more}, text=True).split()
        for more in ({}, {}, {"PYTHONHASHSEED": "7"})
    )
    assert one == other == ["True", one[1], warm.python()]
    wanted = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, text=True)
    assert real == wanted.split()


def test_a_command_ends_by_a_signal_and_with_its_client() -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        client = subprocess.Popen([warm.python(), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert client.stdout is not None
        child = int(client.stdout.readline())
        client.send_signal(number)
        assert client.wait(30) == -number
        while Path(f"/proc/{child}").exists():
            time.sleep(0.01)
        client.stdout.close()
