"""A sweep runs every job in a process of its own, goes on after failures, and exits with the first one's code."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.jobs.jobs import Exit, Task
from builder.tracking import outbox
from tests.unit.cli.conftest import Run

Children = Callable[..., list[Task]]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """Answer child processes with exit codes by precision; returns the tasks that were run."""
    monkeypatch.setattr("builder.tracking.start_flusher", lambda outputs: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def answer(**codes: int) -> list[Task]:
        tasks: list[Task] = []

        class Child:
            pid = 1

            def __init__(self, task: Task) -> None:
                tasks.append(task)
                precision = next(word for word in task.command if word.startswith("precision=")).partition("=")[2]
                self.code = codes[precision]
                if self.code == 0:  # a job that names no artifact that is there has not built one
                    (Path(task.folder) / f"outputs/x/{precision}.mlpackage").mkdir(parents=True, exist_ok=True)
                Path(task.out).write_text(f"noise\noutputs/x/{precision}.mlpackage\n" if self.code == 0 else "")
                Path(task.log).write_text(
                    "  warning[B0001]: mind this\n" + "error[B0401]: it is broken\n" * (self.code != 0)
                )

            def ended(self) -> Exit:
                return Exit(code=self.code, seconds=1.5, peak_bytes=300_000_000)

        monkeypatch.setattr("builder.jobs.local.can_fork", lambda: False)
        monkeypatch.setattr("builder.jobs.local.Process", Child)
        return tasks

    return answer


def test_all_artifacts_are_printed(run: Run, children: Children, tmp_path: Path) -> None:
    # given jobs that all succeed
    tasks = children(fp32=0, fp16=0)

    # when they are swept, quietly
    code, out, err = run("-m", "recipe=x", "precision=fp32,fp16", "sweep.jobs=1", "-q", "--outputs", "there")

    # then the artifacts are on stdout, one a line, in the order of the command line
    assert (code, out) == (0, "outputs/x/fp32.mlpackage\noutputs/x/fp16.mlpackage\n")
    assert err.splitlines()[-1] == "2 of 2 built"

    # and each job had its own arguments, which are not about the sweep, the same outputs, and a log in the sweep's
    assert tasks[0].command[1:] == ("-m", "builder", "recipe=x", "precision=fp32", "--outputs", "there")
    assert {Path(task.log).parent.parent for task in tasks} == {tmp_path / "there" / "sweeps"}
    assert tasks[0].environment["BUILDER_SWEEP_ID"] == tasks[1].environment["BUILDER_SWEEP_ID"]
    assert int(tasks[0].environment["OMP_NUM_THREADS"]) >= 1


def test_the_exit_code_is_the_first_failure_and_the_others_are_built(
    run: Run, children: Children, tmp_path: Path
) -> None:
    # given a crash in the first job (ended by a signal) and a missed check in the second
    children(fp32=-9, mixed=5, fp16=0)

    # when they are swept
    code, out, err = run("-m", "recipe=x", "precision=fp32,mixed,fp16")

    # then the rest is built, and the code is the first failure's
    assert code == 1
    assert out == "outputs/x/fp16.mlpackage\n"
    assert err.count("mind this") == 1
    assert "1 of 3 built" in err

    # and the table says what became of each
    (table,) = tmp_path.glob("outputs/sweeps/*/sweep.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["status"], row["exit_code"], row["message"]) for row in rows] == [
        ("killed", "1", "ended by SIGKILL, most likely because memory ran out"),
        ("broken", "5", "it is broken"),
        ("built", "0", ""),
    ]
    assert [row["peak_bytes"] for row in rows] == ["300000000"] * 3


def test_the_whole_sweep_is_one_run_beside_those_of_its_jobs(run: Run, children: Children, tmp_path: Path) -> None:
    children(fp32=0, fp16=4)
    run("-m", "recipe=x", "precision=fp32,fp16", "tracking=mlflow")
    outputs = tmp_path / "outputs"
    (name,) = outbox.waiting(outputs)
    entry = outbox.read(outputs, name)
    (table,) = outputs.glob("sweeps/*/sweep.csv")
    assert entry.run.tags["sweep_id"] == table.parent.name
    assert entry.run.status == "FAILED"
    assert entry.run.metrics["jobs/built"] == 1.0
    assert [file.path for file in entry.files] == ["sweep.csv"]
    assert (outbox.files_folder(outputs, name) / "sweep.csv").read_text() == table.read_text()


def test_a_sweep_that_is_recorded_nowhere_leaves_no_run(run: Run, children: Children, tmp_path: Path) -> None:
    children(fp32=0)
    assert run("-m", "recipe=x", "precision=fp32", "tracking=none")[0] == 0
    assert outbox.waiting(tmp_path / "outputs") == []


def test_variants_that_a_file_names_are_jobs_with_these_names(run: Run, children: Children, tmp_path: Path) -> None:
    # given a file that names two variants, and a list beside it
    tasks = children(fp32=0, fp16=0)
    (tmp_path / "conf/sweep").mkdir(parents=True)
    (tmp_path / "conf/sweep/mine.yaml").write_text("exact: [precision=fp32]\nhalf: [precision=fp16, seed=3]\n")

    # when it is swept
    code, _, err = run("-m", "recipe=x", "target=ios15,ios16", "sweep=mine", "sweep.jobs=1")

    # then every variant is built with every combination of the rest
    assert code == 0
    assert [task.command[3:-2] for task in tasks] == [
        ("recipe=x", "target=ios15", "precision=fp32"), ("recipe=x", "target=ios16", "precision=fp32"),
        ("recipe=x", "target=ios15", "precision=fp16", "seed=3"),
        ("recipe=x", "target=ios16", "precision=fp16", "seed=3"),
    ]  # fmt: skip
    assert "half target=ios16" in err
    (table,) = tmp_path.glob("outputs/sweeps/*/sweep.csv")
    names = [row["name"] for row in csv.DictReader(table.read_text().splitlines())]
    assert names == ["exact target=ios15", "exact target=ios16", "half target=ios15", "half target=ios16"]


def test_a_job_that_cannot_work_fails_alone(run: Run, children: Children) -> None:
    # given a sweep in which one target is too old for the format
    tasks = children(fp16=0)

    # when it runs
    code, out, err = run("-m", "recipe=x", "precision=fp16", "target=ios14,ios15")

    # then that job is explained without a process, and the other is built
    assert code == 2
    assert len(tasks) == 1
    assert out == "outputs/x/fp16.mlpackage\n"
    assert "needs ios15 or later" in err


def test_nothing_is_built_where_every_job_is_wrong(run: Run, children: Children, tmp_path: Path) -> None:
    tasks = children()
    code, out, _ = run("-m", "recipe=x", "target=ios13,ios14")
    assert (code, out, tasks) == (2, "", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipes"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep.job=2"], ["sweep.job: unknown key", "did you mean `sweep.jobs`?"]),
        (["sweep.jobs=0"], ["sweep.jobs: must be greater than or equal to 1"]),
        (["sweep.jobs=many"], ["sweep.jobs: must be a valid integer"]),
        (["sweep.jobs=1,2"], ["sweep.jobs: must have one value"]),
        (["sweep.jobs=1", "sweep.jobs=2"], ["is given twice"]),
        (["+sweep.jobs=1"], ["must be written as `sweep.NAME=VALUE`"]),
        (["sweep={jobs:1}"], ["must be the name of one file of variants"]),
        (["sweep.launcher=submit"], ["'submit' is not allowed", "did you mean `submitit`?"]),
        (["sweep.memory=lots"], ["sweep.memory: must be an amount of memory"]),
        (["sweep.minutes=5"], ["does nothing with sweep.launcher=local", "sweep.launcher=submitit"]),
        (["sweep.launcher=submitit", "sweep.cluster=slrm"], ["did you mean `slurm`?"]),
        (["sweep.job=2", "sweep.jobs=x"], ["unknown key", "valid integer"]),
    ],
)
def test_wrong_settings_are_explained(
    arguments: list[str], said: list[str], run: Run, children: Children, tmp_path: Path
) -> None:
    tasks = children()
    code, out, err = run("-m", "recipe=x", "precision=fp32,fp16", *arguments)
    assert (code, out, tasks) == (2, "", [])
    for part in said:
        assert part in err
    assert not (tmp_path / "outputs").exists()


def test_settings_of_a_sweep_need_a_sweep(run: Run) -> None:
    code, _, err = run("recipe=x", "sweep.jobs=2")
    assert code == 2
    assert "sweep.jobs: is about a sweep" in err
    assert "`-m`" in err


def test_a_launcher_that_is_not_there_is_said_before_anything_is_written(
    run: Run, children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given no Slurm
    monkeypatch.setenv("PATH", str(tmp_path))
    children()
    code, out, err = run("-m", "recipe=x", "precision=fp32,fp16", "sweep.launcher=submitit")
    assert (code, out) == (7, "")
    assert "there is no Slurm here" in err
    assert not (tmp_path / "outputs").exists()
