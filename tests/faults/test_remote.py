"""Two machines that share a store behind a real S3 API: each stage is built once, and an outage costs time only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.s3 import S3, SECRET

from .conftest import Project


@pytest.fixture
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


def wait_until_sent(project: Project) -> None:
    """The process that a build leaves behind sends what waits."""
    for _ in range(600):
        if not list((project.cache / "unsent").glob("*.send.*")):
            return
        time.sleep(0.1)
    raise AssertionError([path.read_text() for path in (project.cache / "unsent").glob("*.log")])


def settled(project: Project) -> Project:
    """The project, once the process that sends has ended, whatever came of it."""
    for _ in range(600):
        if not list((project.cache / "unsent").glob("*.lock")):
            return project
        time.sleep(0.1)
    raise AssertionError("it does not end")


def everything_written(*projects: Project) -> Iterator[tuple[Path, bytes]]:
    for project in projects:
        for path in project.folder.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()


def run(project: Project, verb: str, environment: Mapping[str, str]) -> tuple[int, str]:
    process = project.start(verb=verb, recipe="", environment=dict(environment))
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


@pytest.mark.slow
def test_one_machine_builds_and_another_takes_it_from_s3(
    s3: S3, make_project: Callable[[], Project], expected: str
) -> None:
    # given a machine that has built
    one, other = make_project(), make_project()
    environment = s3.environment("models/v1")
    said = one.build("-v", environment=environment)
    wait_until_sent(one)
    assert "warning" not in said
    # when another builds the same recipe
    said += other.build("-v", environment=environment)
    # then it runs no stage, and its artifact is the same bytes
    assert other.cached() == dict.fromkeys(other.cached(), True)
    settled(other).check(expected)
    settled(one).check(expected)
    assert "seal: from the remote store s3://team-bucket/models/v1" in said
    # and no secret is written or shown anywhere, in the bucket either
    assert SECRET not in said
    assert [path for path, content in everything_written(one, other) if SECRET.encode() in content] == []


@pytest.mark.slow
def test_objects_that_strangers_wrote_to_the_bucket_change_no_artifact(
    s3: S3, make_project: Callable[[], Project], expected: str
) -> None:
    # given a bucket in which every object and every second result was overwritten
    one, other, third = make_project(), make_project(), make_project()
    environment = s3.environment("p")
    one.build(environment=environment)
    wait_until_sent(one)
    for position, name in enumerate(s3.names()):
        if "/cas/" in name or position % 2:
            s3.write(name, b'{"schema": 4}' if name.endswith(".json") else b"not what the name says")
    # when another machine builds
    said = other.build(environment=environment)
    # then it has built what it could not use, and what it sent is whole
    assert "damaged" in said
    settled(other).check(expected)
    wait_until_sent(other)
    third.build(environment=environment)
    assert set(third.cached().values()) == {True}
    settled(third).check(expected)


@pytest.mark.slow
def test_an_outage_in_the_middle_of_a_build_costs_time_only(
    s3: S3, make_project: Callable[[], Project], expected: str
) -> None:
    # given a machine whose server goes away as soon as the first result has arrived
    one, other = make_project(), make_project()
    environment = s3.environment("p")
    one.build(environment=environment)
    wait_until_sent(one)
    process = other.start("-v", environment=environment)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "from the remote store" in line:
            s3.stop()
            break
    _, rest = process.communicate(timeout=300)
    # then it goes on alone, says so once, and loses nothing
    assert process.returncode == 0, said + rest
    assert (said + rest).count("is not used in this build") == 1
    settled(other).check(expected)
    code, told = run(other, "flush", environment)
    assert (code, "B0709" in told) == (7, True), told


@pytest.mark.slow
def test_machines_side_by_side_and_a_variant_share_what_is_common(
    s3: S3, make_project: Callable[[], Project], expected: str
) -> None:
    machines = [make_project() for _ in range(2)]
    environment = s3.environment("p")
    processes = [machine.start(environment=environment) for machine in machines]
    assert [(process.communicate(timeout=300)[1], process.returncode)[1] for process in processes] == [0, 0]
    for machine in machines:
        wait_until_sent(machine)
        settled(machine).check(expected)
    # when a third builds another precision: what does not depend on it is there
    third = make_project()
    process = third.start("precision=fp32", environment=environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    record = json.loads((third.folder / Path(out.strip()).parent / "build.json").read_text())
    assert {stage["name"]: stage["cached"] for stage in record["stages"]}["capture"] is True
