"""Jobs as Ray tasks, against a stand-in for Ray's few functions: the real one starts a cluster and is large."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import UnfitEnvironmentError
from builder.jobs.jobs import Exit, Task
from builder.jobs.on_ray import RayLauncher
from builder.jobs.settings import RaySweep
from tests.unit.sweep.conftest import MakeJob

SETTINGS = RaySweep(launcher="ray", address="auto", cpus=2, job_memory=10**9)


class RayError(Exception):
    """As ray.exceptions.RayError."""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A Ray that runs a task when its result is asked for, and remembers what it was told."""
    asked: dict[str, Any] = {"cancelled": []}

    def remote(**options: Any) -> Callable[[Callable[[Task], Exit]], Any]:
        asked.update(options)
        return lambda function: types.SimpleNamespace(remote=lambda task: (function, task))

    def get(reference: tuple[Callable[[Task], Exit], Task]) -> Exit:
        if asked.get("lost"):
            raise RayError("the worker died\nand more")
        return reference[0](reference[1])

    stand_in = types.SimpleNamespace(
        init=lambda **options: asked.update(options),
        remote=remote,
        wait=lambda references, timeout: (references, []) if asked.get("done", True) else ([], references),
        get=get,
        cancel=lambda reference, force=False: asked["cancelled"].append(force),
        exceptions=types.SimpleNamespace(RayError=RayError),
        asked=asked,
    )
    monkeypatch.setitem(sys.modules, "ray", stand_in)  # type: ignore[arg-type]  # what `import ray` gives
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return stand_in


def task(folder: Path, code: str) -> Task:
    log, out = str(folder / "1.log"), str(folder / "1.out")
    return Task(command=(sys.executable, "-c", code), folder=str(folder), environment={}, log=log, out=out)


def test_a_task_asks_for_what_the_settings_say(ray: types.SimpleNamespace, tmp_path: Path, make_job: MakeJob) -> None:
    launcher = RayLauncher(SETTINGS, jobs=12)
    handle = launcher.start(make_job(1), task(tmp_path, "import sys; sys.exit(5)"))
    ray.asked["done"] = False
    assert handle.ended() is None
    ray.asked["done"] = True
    ended = handle.ended()
    assert ended is not None
    assert ended.code == 5
    wanted = {"address": "auto", "num_cpus": 2, "memory": 10**9, "max_retries": 0}
    assert {key: ray.asked[key] for key in wanted} == wanted
    assert launcher.limit == 12
    assert launcher.lacks(make_job(2)) is None


def test_a_lost_worker_is_a_killed_job(ray: types.SimpleNamespace, tmp_path: Path, make_job: MakeJob) -> None:
    ray.asked["lost"] = True
    ended = RayLauncher(SETTINGS, jobs=1).start(make_job(1), task(tmp_path, "")).ended()
    assert ended is not None
    assert (ended.code, ended.said) == (-9, "ended by Ray: the worker died")


def test_stopping_cancels(ray: types.SimpleNamespace, tmp_path: Path, make_job: MakeJob) -> None:
    handle = RayLauncher(SETTINGS, jobs=1).start(make_job(1), task(tmp_path, ""))
    handle.stop()
    handle.kill()
    ended = handle.ended()
    assert ended is not None
    assert ended.code == 130
    assert ray.asked["cancelled"] == [False, True]


def test_a_cluster_that_does_not_answer_is_said(ray: types.SimpleNamespace) -> None:
    def refuse(**options: Any) -> None:
        raise ConnectionError("could not find any running Ray instance\nmore")

    ray.init = refuse
    with pytest.raises(UnfitEnvironmentError, match="Ray on auto does not answer: could not find"):
        RayLauncher(SETTINGS, jobs=1)
