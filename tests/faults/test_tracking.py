"""A tracking server that is down stops no build and loses none; once it is back, it gets all of them, each once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Project


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """MLflow's own tracking server, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder / 'runs.db'}", "--artifacts-destination", str(folder / "files")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(port, process)
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        assert process.poll() is None, "the server did not start"
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise AssertionError("the server does not answer")


@pytest.mark.slow
def test_builds_of_a_time_without_server_arrive_once_it_is_back(
    project: Project, expected: str, tmp_path: Path
) -> None:
    # given a server that is down while two variants are built
    port = free_port()
    tracked = ("tracking=mlflow",)
    environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    project.build(*tracked, environment=environment)
    project.no_partial_artifact(expected)
    second = project.start("compression=none", *tracked, environment=environment)
    _, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    down = project.start(verb="flush", recipe="", environment=environment)
    out, err = down.communicate(timeout=300)
    assert down.returncode == 7, (out, err)
    assert f"127.0.0.1:{port}" in err

    with server(tmp_path, port):
        # when it is back, and both a flush and another build send what waits
        back = [project.start(verb="flush", recipe="", environment=environment) for _ in range(2)]
        assert [(process.communicate(timeout=300)[1], process.returncode)[1] for process in back] == [0, 0]

        # then each build is one whole run
        from mlflow.tracking import MlflowClient

        client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name("builder")
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(run.info.run_name for run in runs) == ["tiny/compression=none", "tiny/default"]
        assert {run.info.status for run in runs} == {"FINISHED"}
        digests = {run.info.run_name: run.data.tags["artifact.digest"] for run in runs}
        assert digests["tiny/default"] == expected
