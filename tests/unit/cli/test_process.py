"""What surrounds a command may be broken: closed streams, a full disk behind them, no working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.cli.process import setup_process
from builder.errors import UnfitEnvironmentError

BUILDER = f"{sys.executable} -m builder"


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in `folder` with this builder."""
    root = str(Path(__file__).parents[3])
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
@pytest.mark.parametrize(("arguments", "code"), [("show recipe=digits_mobilenet", 0), ("recipe=nothing_like_it", 2)])
def test_streams_may_be_closed(closed: str, arguments: str, code: int, tmp_path: Path) -> None:
    done = run(f"{BUILDER} {arguments} {closed}", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_stdout_is_told(tmp_path: Path) -> None:
    done = run(f"{BUILDER} show recipe=digits_mobilenet >/dev/full", tmp_path)
    assert done.returncode == 7
    assert done.stderr.startswith("error[B0706]: the disk is full")
    assert "Traceback" not in done.stderr


def test_a_working_directory_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UnfitEnvironmentError, match="the working directory is gone"):
        setup_process()


def test_no_library_tells_its_maker_what_is_built(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    code = (
        "from builder.cli.process import setup_process; setup_process()\n"
        "import onnxruntime, sys; onnxruntime.InferenceSession\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled; sys.exit(not is_telemetry_disabled())"
    )
    command = f"env -u CI -u PYTEST_CURRENT_TEST HOME={tmp_path} TMPDIR={tmp_path} {sys.executable} -c '{code}'"
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not [file.name for file in tmp_path.rglob("*") if "onnxruntime" in file.name or file.name == ".ses"]
