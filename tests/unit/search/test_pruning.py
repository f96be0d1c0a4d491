"""A build is stopped only where nothing is lost by it, and from what it tells while it runs."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.jobs.jobs import Exit, Job, Task
from builder.progress import Bound
from builder.search.front import front_of
from builder.search.pruning import BoundsFile, Known, PruningLauncher, why_hopeless
from builder.search.settings import Search
from tests.unit.search.conftest import OBJECTIVES, SPACE, MakeSearch, trial

SIZES, QUALITIES = st.integers(1, 6), st.lists(st.integers(0, 8), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(builds=st.lists(st.tuples(SIZES, QUALITIES), max_size=8), least=st.none() | st.integers(0, 8))
def test_the_front_is_the_same_with_pruning(tmp_path_factory, builds, least):
    # given builds of a size that is known first, and a quality that is the worst over samples that come one by one
    constraints = {"enough": {"measure": "checks.parity.snr_db", "min": float(least)}} if least is not None else {}
    search = Search.model_validate({"space": SPACE, "objectives": OBJECTIVES, "constraints": constraints})
    whole, pruned, stopped = [], [], 0
    for number, (size, qualities) in enumerate(builds, start=1):
        good = least is None or min(qualities) >= least
        built = trial(number, float(size), float(min(qualities)), state="complete" if good else "infeasible")
        whole.append(built)

        # when each tells its bounds, and is stopped where it is hopeless
        path = tmp_path_factory.mktemp("bounds") / "file"
        writer, known, reason = BoundsFile(path), Known(path), None
        told = [{"artifact.bytes": Bound(at_least=float(size), at_most=float(size))}]
        told += [{"checks.parity.output.snr_db": Bound(at_most=float(q))} for q in qualities]
        for bounds in told:
            writer.bound(lambda bounds=bounds: bounds)
            known.read()
            reason = reason or why_hopeless(known, search, pruned)
        stopped += reason is not None
        pruned.append(built if reason is None else trial(number, values={}, state="pruned"))

    # then the front is that of all, and what was stopped is hopeless in truth
    def values(trials):
        return [dict(t.values) for t in front_of(trials, search.objectives)]

    assert values(pruned) == values(whole)
    assert stopped == sum(t.state == "pruned" for t in pruned)


def test_the_worst_of_all_outputs_and_engines_bounds_a_measure(tmp_path: Path) -> None:
    file, known = BoundsFile(tmp_path / "b"), Known(tmp_path / "b")
    assert not known.read()
    file.bound(lambda: {"checks.parity.a.snr_db": Bound(at_most=50.0), "checks.parity.b.snr_db": Bound(at_most=40.0)})
    file.bound(lambda: {"checks.parity.a.snr_db": Bound(at_most=45.0), "checks.parity.b.snr_db": Bound(at_most=60.0)})
    file.bound(lambda: {"checks.parity.a.max_abs": Bound(at_least=math.nan), "checks.c.drop": Bound(at_least=0.1)})
    assert known.read()
    assert known.largest("checks.parity.snr_db") == 40.0
    assert known.largest("checks.parity.a.snr_db") == 45.0
    assert known.largest("checks.other.snr_db") == math.inf
    assert known.largest("checks.c.accuracy") == 1.0  # whatever is measured
    assert known.smallest("checks.parity.max_abs") == -math.inf
    assert known.smallest("checks.c.drop") == 0.1


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    file, known = tmp_path / "b", Known(tmp_path / "b")
    file.write_text('{"artifact.bytes": [7')
    assert not known.read()
    with file.open("a") as stream:
        stream.write(".0, 7.0]}\n")
    assert known.read()
    assert known.smallest("artifact.bytes") == 7.0


def test_the_same_bounds_are_written_once(tmp_path: Path) -> None:
    file = BoundsFile(tmp_path / "b")
    for _ in range(3):
        file.bound(lambda: {"artifact.bytes": Bound(at_least=1.0)})
    assert (tmp_path / "b").read_text().count("\n") == 1


def test_a_tie_is_not_hopeless_and_the_reason_names_who_beats_it(tmp_path: Path, make_search: MakeSearch) -> None:
    file, known = BoundsFile(tmp_path / "b"), Known(tmp_path / "b")
    file.bound(lambda: {"artifact.bytes": Bound(at_least=5.0), "checks.parity.o.snr_db": Bound(at_most=30.0)})
    known.read()
    assert why_hopeless(known, make_search(), [trial(1, 5.0, 30.0)]) is None
    assert why_hopeless(known, make_search(), [trial(1, 5.0, 31.0, state="infeasible")]) is None
    assert why_hopeless(known, make_search(), [trial(3, 5.0, 31.0)]) == (
        "trial 3 beats whatever it may reach (size at least 5 bytes, quality at most 30)"
    )


class Launched:
    """A launcher, and the one job that it runs for ever."""

    limit, pause, threads = 1, 0.0, None

    def __init__(self) -> None:
        self.stops = 0

    def start(self, job: Job, task: Task) -> Launched:
        return self

    def blocked_reason(self, job: Job) -> str | None:
        return None

    def finished(self, job: Job, exit: Exit) -> None: ...

    def close(self) -> None: ...

    def ended(self) -> Exit | None:
        return Exit(code=130, seconds=1.0) if self.stops else None

    def stop(self) -> None:
        self.stops += 1

    def kill(self) -> None: ...


def test_a_hopeless_job_is_asked_to_end_once(tmp_path: Path, make_search: MakeSearch) -> None:
    # given a running job
    launched, search = Launched(), make_search(constraints={"small": {"measure": "artifact.bytes", "max": 1000.0}})
    launcher = PruningLauncher(launched, search, lambda: [], lambda job: tmp_path / "b")
    job = Job(number=4, arguments=(), label="", request=None)
    handle = launcher.start(job, Task(command=(), folder="", environment={}, log="", out=""))
    assert handle.ended() is None
    assert launched.stops == 0

    # when it tells that it is too large
    BoundsFile(tmp_path / "b").bound(lambda: {"artifact.bytes": Bound(at_least=2000.0, at_most=2000.0)})

    # then it is stopped, and it is known why
    assert handle.ended() is None
    assert handle.ended() == Exit(code=130, seconds=1.0)
    assert launched.stops == 1
    assert launcher.reasons == {4: "artifact.bytes is at least 2.0 kB"}
