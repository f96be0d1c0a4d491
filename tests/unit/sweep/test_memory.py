"""A job starts only where its memory fits beside what runs, by what was measured or by what its weights suggest."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.jobs import memory
from builder.jobs.jobs import Exit, Task
from builder.jobs.local import LocalLauncher
from builder.jobs.memory import Peaks, Running, fits
from builder.jobs.settings import LocalSweep
from builder.util.memory import _of_containers, _of_mac, available
from tests.unit.sweep.conftest import MakeJob

GB = 10**9


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A machine with so much free memory, and processes that hold so much each."""
    state = {"free": 10 * GB, "resident": GB}
    monkeypatch.setattr(memory, "available", lambda: state["free"])
    monkeypatch.setattr(memory, "resident", lambda pid: state["resident"])
    return state


def test_what_runs_may_still_grow_to_its_estimate(machine: dict[str, int]) -> None:
    # given 10 GB free, of which a twentieth is kept, and a job that holds 1 of the 5 GB that it may take
    running = [Running(pid=1, estimate=5 * GB)]

    # then 5.5 GB are left for another
    assert fits(5 * GB, running, limit=None)
    assert not fits(6 * GB, running, limit=None)


def test_a_job_that_took_more_than_its_estimate_counts_by_what_is_free(machine: dict[str, int]) -> None:
    machine["resident"] = 8 * GB
    assert fits(9 * GB, [Running(pid=1, estimate=5 * GB)], limit=None)


def test_the_limit_of_the_sweep_holds_too(machine: dict[str, int]) -> None:
    assert fits(2 * GB, [Running(pid=1, estimate=2 * GB)], limit=4 * GB)
    assert not fits(2 * GB, [Running(pid=1, estimate=3 * GB)], limit=4 * GB)


def test_the_machine_and_its_containers_are_read(tmp_path: Path) -> None:
    # given a container of 4 GB that holds 3 GB, 1 GB of them page cache
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3000000000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000000\ninactive_file 1000000000\n")
    assert _of_containers(tmp_path) == [2 * GB]

    # and one without a limit
    (tmp_path / "memory.max").write_text("max\n")
    assert _of_containers(tmp_path) == []
    assert available() > 0


def test_macs_are_read() -> None:
    said = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               1000.\n"
        "Pages active:                            90000.\n"
        "Pages inactive:                           2000.\n"
        '"Translation faults":                 123456789.\n'
    )
    assert _of_mac(said) == 3000 * 16384


def test_this_process_holds_memory() -> None:
    import os

    assert memory.resident(os.getpid()) > 10_000_000
    assert memory.resident(2**22 + 1) == 0  # above the largest process number of Linux


def test_a_measured_peak_replaces_the_guess_and_is_kept(tmp_path: Path, make_job: MakeJob) -> None:
    # given no earlier job of this source
    path = tmp_path / "peaks.json"
    job, other = make_job(1, {"load": "a"}), make_job(2, {"load": "b"})
    guess = Peaks(path).estimate(job)
    assert guess == memory.BASE_BYTES + memory.TIMES_WEIGHTS * memory.UNKNOWN_WEIGHTS

    # when one has taken 500 MB, and later one that was answered from the store took little
    peaks = Peaks(path)
    peaks.measured(job, 500_000_000)
    peaks.measured(job, 20_000_000)
    peaks.measured(job, None)

    # then the next sweep expects a tenth more, and of others it still guesses
    assert Peaks(path).estimate(job) == 550_000_000
    assert Peaks(path).estimate(other) == guess


def test_a_damaged_file_of_peaks_is_no_peak(tmp_path: Path, make_job: MakeJob) -> None:
    path = tmp_path / "peaks.json"
    path.write_text("[1, 2")
    assert Peaks(path).estimate(make_job(1)) > 0


def test_weights_are_sized_without_loading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pt").write_bytes(b"1234")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_bytes(b"12")
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet18-f37072fd.pth").write_bytes(b"123")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert memory.weights_bytes([tmp_path / "a.pt", tmp_path / "folder"], None) == 6
    assert memory.weights_bytes([], "resnet18") == 3
    assert memory.weights_bytes([tmp_path / "missing"], "resnet50") is None


def test_the_launcher_waits_for_memory(
    machine: dict[str, int], tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given room for one job of 6 GB and not for two
    class Child:
        def __init__(self, task: Task) -> None:
            self.pid = 1

    monkeypatch.setattr("builder.jobs.local.Process", Child)
    launcher = LocalLauncher(LocalSweep(job_memory=6 * GB), peaks=tmp_path / "peaks.json", jobs=2)
    first, second = make_job(1), make_job(2)
    assert launcher.blocked_reason(first) is None
    launcher.start(first, Task(command=(), folder="", environment={}, log="", out=""))

    # then the second waits, and is told why
    said = launcher.blocked_reason(second)
    assert said is not None
    assert "6.0 GB" in said
    assert "sweep.job_memory" in said

    # until the first has ended
    launcher.finished(first, Exit(code=0, seconds=1.0, peak_bytes=GB))
    assert launcher.blocked_reason(second) is None
