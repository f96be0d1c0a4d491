"""A crash at any moment, a damaged, full or read-only store, two builds at once, a clock set back: nothing is lost.

The default run kills at a few random moments; `BUILDER_KILLS=100 pytest tests/faults/test_store.py -k killed -m ''` at
more, which takes an hour or so.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Project

KILLS = int(os.environ.get("BUILDER_KILLS", "3"))
SEED = 20_240_229


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a build and its children, as the kernel does when memory is short."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def objects(project: Project) -> list[Path]:
    return sorted(path for path in (project.cache / "store/cas").rglob("*") if path.is_file())


def actions(project: Project, stage: str = "*") -> list[Path]:
    return sorted((project.cache / "store/actions").glob(f"{stage}/*.json"))


@pytest.mark.timeout(max(600, 60 * KILLS))
@pytest.mark.slow
@pytest.mark.parametrize(
    ("together", "collected"),
    [
        pytest.param(1, False, id="alone"),
        pytest.param(2, False, id="two in parallel"),
        pytest.param(2, True, id="two and a collection of garbage"),
    ],
)
def test_the_build_after_a_killed_one_is_right(
    together: int, project: Project, expected: str, *, collected: bool
) -> None:
    # given the time that a whole build takes, and the store that it leaves
    start = time.perf_counter()
    project.build()
    whole = time.perf_counter() - start
    chance = random.Random(SEED + together)
    for number in range(KILLS):
        if number % 3 == 0:  # the store is empty, has lost some of its results, or has them all
            shutil.rmtree(project.cache)
        elif number % 3 == 1:
            for action in chance.sample(actions(project), 4):
                action.unlink()
        shutil.rmtree(project.folder / "outputs", ignore_errors=True)
        # when builds are killed at a random moment
        builds = [project.start() for _ in range(together)]
        if collected:
            builds.append(collect_everything(project))
        time.sleep(chance.uniform(0.02, 1.0) * whole * together)
        for build in builds:
            kill(build)
        # then nothing partial is published, and the next build is right and leaves no lock
        project.no_partial_artifact(expected)
        project.build()
        project.check(expected)


def collect_everything(project: Project) -> subprocess.Popen[str]:
    """Make everything in the store old, and start a collection of garbage, to which then nothing is sacred."""
    for path in (project.cache / "store").rglob("*"):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (1, 1))
    return project.start("--older-than", "1h", verb="gc", recipe="")


def test_two_builds_at_once_compute_each_stage_once(project: Project, expected: str) -> None:
    # when: one after the other into outputs of their own, so that only the store is shared
    builds = [project.start("--outputs", name) for name in ("one", "two")]
    for build in builds:
        _, err = build.communicate(timeout=300)
        assert build.returncode == 0, err
    # then
    cached = []
    for name in ("one", "two"):
        record = json.loads((project.folder / name / "tiny/default/build.json").read_text())
        assert record["artifact"]["digest"] == expected
        cached.append([stage["cached"] for stage in record["stages"]])
    assert [one + two for one, two in zip(*cached, strict=True)] == [1] * 7
    assert not list(project.folder.rglob("*.lock"))


def truncate(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(truncate, id="truncated", marks=pytest.mark.slow),
        pytest.param(flip, id="flipped"),
        pytest.param(Path.unlink, id="removed", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("which", [objects, actions], ids=["objects", "actions"])
def test_a_damaged_store_is_said_and_does_no_harm(
    which: Callable[[Project], list[Path]], damage: Callable[[Path], None], built: Project, expected: str
) -> None:
    # given a store in which everything of one sort is damaged, and outputs that are gone
    for path in which(built):
        damage(path)
    shutil.rmtree(built.folder / "outputs")
    # when
    said = built.build()
    # then
    built.check(expected)
    if which is objects or damage is not Path.unlink:  # an action that is gone was never there
        assert "runs again" in said
    # and the store is mended
    shutil.rmtree(built.folder / "outputs")
    assert "runs again" not in built.build()
    assert all(built.cached().values())
    built.check(expected)


def test_an_object_that_is_damaged_stops_nothing_that_does_not_need_it(built: Project, expected: str) -> None:
    # given a captured program that is damaged
    program = json.loads(actions(built, "capture")[0].read_text())["action"]["objects"]["program"]
    flip(built.cache / "store/cas/sha256" / program[7:9] / program[7:])
    shutil.rmtree(built.folder / "outputs")
    # when the store has all that comes after it
    assert "runs again" not in built.build()
    built.check(expected)


def test_a_store_that_cannot_be_written_is_read(built: Project, expected: str) -> None:
    # given a full store in which nothing can be created: each of its folders for new things is a file
    for name in ("tmp", "locks"):
        place = built.cache / "store" / name
        shutil.rmtree(place, ignore_errors=True)
        place.touch()
    shutil.rmtree(built.folder / "outputs")
    # when
    said = built.build()
    # then hits are read
    built.check(expected)
    assert all(built.cached().values())
    assert "cannot be written" not in said
    # and when something new is to be kept, that is said once
    (built.folder / "net.py").write_text((built.folder / "net.py").read_text() + "\n# more\n")
    said = built.build()
    assert said.count("cannot be written") == 1
    built.check(expected)


@pytest.mark.slow
def test_a_store_that_fills_up_does_not_stop_the_build(project: Project, expected: str) -> None:
    # given room for small files only, as on a disk that is nearly full (the weights are larger than the limit)
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))

    process = project.start(preexec_fn=limit)
    _, err = process.communicate(timeout=300)
    # then the build either succeeds or says what is wrong, and nothing partial is published
    assert process.returncode in (0, 4, 7), err
    assert "Traceback" not in err
    project.no_partial_artifact(expected)
    # and when there is room again
    project.build()
    project.check(expected)


def test_a_clock_that_is_set_back_decides_nothing(built: Project, expected: str) -> None:
    # given a build whose every file lies in the future, as after the clock was set back by a year
    ahead = time.time() + 365 * 86400
    for path in [*built.folder.rglob("*")]:
        if path.is_file():
            os.utime(path, (ahead, ahead))
    # when an input changes at the old time
    net = built.folder / "net.py"
    net.write_text(net.read_text().replace("600", "601"))
    os.utime(net, (ahead, ahead))
    built.build()
    # then
    assert built.record()["artifact"]["digest"] != expected
    net.write_text(net.read_text().replace("601", "600"))
    os.utime(net, (ahead, ahead))
    built.build()
    built.check(expected)
