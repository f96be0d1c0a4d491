"""Jobs run at most so many at a time, shared stages first and once, and nothing stays when a sweep is interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.jobs import scheduler as scheduling
from builder.jobs.jobs import Exit, Job, Task
from builder.jobs.scheduler import Interruption, Scheduler
from tests.unit.sweep.conftest import MakeJob


class Handle:
    """A job that ends after so many looks, with the code that it is given."""

    def __init__(self, looks: int, code: int) -> None:
        self.looks, self.code = looks, code
        self.stopped = self.killed = 0

    def ended(self) -> Exit | None:
        self.looks -= 1
        if self.killed:
            return Exit(code=-9, seconds=1.0)
        return Exit(code=self.code, seconds=1.0) if self.looks <= 0 else None

    def stop(self) -> None:
        self.stopped += 1

    def kill(self) -> None:
        self.killed += 1


class World:
    """A launcher and a listener in one, which writes down what happens."""

    pause = 0.0
    threads = None

    def __init__(self, folder: Path, *, limit: int = 2) -> None:
        self.folder, self.limit = folder, limit
        self.events: list[str] = []
        self.handles: dict[int, Handle] = {}
        self.codes: dict[int, int] = {}
        self.looks = 3
        self.exits: dict[int, Exit] = {}
        self.largest = 0
        self.full = False

    def task(self, job: Job) -> Task:
        log = str(self.folder / f"{job.number}.log")
        return Task(command=("true",), folder=".", environment={}, log=log, out=log + ".out")

    def start(self, job: Job, task: Task) -> Handle:
        self.handles[job.number] = Handle(self.looks, self.codes.get(job.number, 0))
        self.largest = max(self.largest, len(self.handles) - len(self.exits))
        return self.handles[job.number]

    def blocked_reason(self, job: Job) -> str | None:
        return "no memory" if self.full else None

    def finished(self, job: Job, exit: Exit) -> None:
        pass

    def close(self) -> None:
        pass

    def started(self, job: Job) -> None:
        self.events.append(f"start {job.number}")

    def at(self, job: Job, stage: str) -> None:
        self.events.append(f"{job.number} at {stage}")

    def warned(self, job: Job, message: str) -> None:
        self.events.append(f"{job.number} warns {message}")

    def ended(self, job: Job, exit: Exit, *, stopped: bool) -> None:
        self.exits[job.number] = exit
        self.events.append(f"end {job.number}" + (" stopped" if stopped else ""))

    def scheduler(self, interruption: Interruption | None = None) -> Scheduler:
        return Scheduler(launcher=self, listener=self, task_of=self.task, interruption=interruption or Interruption())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_no_more_jobs_run_than_the_limit(world: World, make_job: MakeJob) -> None:
    jobs = [make_job(number, {"load": str(number)}) for number in range(1, 6)]
    assert world.scheduler().run(jobs)
    assert world.largest == 2
    assert sorted(world.exits) == [1, 2, 3, 4, 5]


def test_a_shared_stage_is_computed_before_the_jobs_that_share_it_start(world: World, make_job: MakeJob) -> None:
    # given two sources with three jobs each, in the order of the command line
    world.limit = 6
    jobs = [make_job(number, {"load": "one" if number <= 3 else "two", "seal": str(number)}) for number in range(1, 7)]

    # when they run
    assert world.scheduler().run(jobs)

    # then the first of each source runs alone, both at a time, and the rest together
    assert world.events[:4] == ["start 1", "start 4", "end 1", "end 4"]
    assert sorted(world.events[4:8]) == ["start 2", "start 3", "start 5", "start 6"]


def test_jobs_start_as_soon_as_the_shared_stage_has_ended(world: World, make_job: MakeJob) -> None:
    # given a first job whose log says that it has captured, and that goes on for long
    first = make_job(1, {"load": "l", "capture": "c", "convert": "1"})
    second = make_job(2, {"load": "l", "capture": "c", "convert": "2"})
    log = "".join(f"  {stage:<11}{time:>9}  said\n" for stage, time in [("load", "1.2 s"), ("capture", "cached")])
    Path(world.task(first).log).write_text(log + "  warning[B0001]: mind this\n")
    world.looks = 10

    # when both run
    assert world.scheduler().run([first, second])

    # then the second starts before the first has ended, and what was said is told
    assert world.events.index("start 2") < world.events.index("end 1")
    assert world.events[1:3] == ["1 at convert", "1 warns [B0001] mind this"]


def test_where_the_first_of_a_group_fails_the_next_computes_what_is_shared(world: World, make_job: MakeJob) -> None:
    world.limit, world.codes = 3, {1: 4}
    assert world.scheduler().run([make_job(number) for number in (1, 2, 3)])
    assert world.events == ["start 1", "end 1", "start 2", "end 2", "start 3", "end 3"]


def test_a_broken_build_has_computed_what_is_shared(world: World, make_job: MakeJob) -> None:
    world.limit, world.codes = 3, {1: 5}
    assert world.scheduler().run([make_job(number) for number in (1, 2, 3)])
    assert world.events[:4] == ["start 1", "end 1", "start 2", "start 3"]


def test_jobs_that_write_the_same_folder_run_one_after_the_other(world: World, make_job: MakeJob) -> None:
    jobs = [make_job(number, {}, variant="default") for number in (1, 2)]
    assert world.scheduler().run(jobs)
    assert world.largest == 1


def test_a_job_that_never_fits_fails_and_the_sweep_ends(
    world: World, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "PATIENCE_SECONDS", 0.0)
    world.full = True
    assert world.scheduler().run([make_job(1), make_job(2)])
    assert {number: (exit.code, exit.summary) for number, exit in world.exits.items()} == {
        1: (7, "no memory"),
        2: (7, "no memory"),
    }
    assert not world.handles


def test_an_interruption_stops_what_runs_and_starts_nothing_more(world: World, make_job: MakeJob) -> None:
    # given a sweep in which somebody presses Ctrl-C when the first job has started
    interruption = Interruption()
    world.looks = 20

    def start(job: Job, task: Task, kept: object = world.start) -> Handle:
        interruption.count += 1
        return kept(job, task)  # type: ignore[operator]  # the method that is replaced

    world.start = start  # type: ignore[method-assign]  # as above

    # when it runs
    finished = world.scheduler(interruption).run([make_job(number, {}) for number in (1, 2, 3)])

    # then the running job is asked to end, and it is waited for
    assert not finished
    assert world.events == ["start 1", "end 1 stopped"]
    assert (world.handles[1].stopped, world.handles[1].killed) == (1, 0)


def test_a_job_that_does_not_end_is_killed(world: World, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "GRACE_SECONDS", 0.0)
    interruption = Interruption()
    world.looks = 10**6
    sweep = world.scheduler(interruption)
    sweep._start_what_fits([make_job(1)])
    interruption.count = 1
    sweep._stop_all()
    assert world.handles[1].killed == 1
    assert world.exits[1].code == -9


def test_further_jobs_are_asked_for_one_at_a_time_when_there_is_room(world: World, make_job: MakeJob) -> None:
    # given jobs of which each is only known when there is room for it
    waiting = [make_job(number, {"load": str(number)}) for number in (2, 3, 4, 5)]
    running: list[int] = []

    def more() -> list[Job]:
        running.append(sum(event.startswith("start") for event in world.events) - len(world.exits))
        return [waiting.pop(0)] if waiting else []

    # when one is given and the others are asked for
    scheduler = world.scheduler()
    scheduler.more = more
    assert scheduler.run([make_job(1, {"load": "1"})])

    # then all ran, none was asked for before there was room, and it ended when there were no more
    assert sorted(world.exits) == [1, 2, 3, 4, 5]
    assert max(running) == 1
    assert world.largest == 2
