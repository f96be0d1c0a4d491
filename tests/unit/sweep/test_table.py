"""The table of a sweep tells all of every job: on 80 columns, on wide terminals, as CSV, and as one MLflow run."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from builder.artifacts.record import BuildRecord
from builder.jobs import outcomes
from builder.jobs.jobs import Exit, Outcome, Task
from builder.jobs.table import Row, print_table, render_csv, row_of
from builder.reports.build_json import write_build_json
from builder.reports.verdict import leading
from builder.spec.tracking import MlflowTracking
from builder.sweep.run import summary_run, trackings
from tests.unit.sweep.conftest import MakeJob

End = Callable[..., Outcome]


@pytest.fixture
def end(tmp_path: Path, make_job: MakeJob, record: BuildRecord) -> End:
    """End a job with a code; with 0 or 5 its `build.json` lies where builds leave it."""

    def ended(number: int, code: int, log: str = "", *, variant: str | None = None, stopped: bool = False) -> Outcome:
        job = make_job(number, variant=variant)
        assert job.request is not None
        outputs = tmp_path / "outputs"
        folder = outputs / ("broken" if code == 5 else "") / record.request.recipe / job.request.variant
        artifact = folder / "it.mlpackage"
        if code in (0, 5):
            artifact.mkdir(parents=True)
            checks = record.checks if code == 0 else (dataclasses.replace(record.checks[0], passed=False),)
            made = dataclasses.replace(
                record,
                request=job.request,
                variant=job.request.variant,
                status="built" if code == 0 else "broken",
                artifact=dataclasses.replace(record.artifact, path=artifact),
                checks=checks,
            )
            write_build_json(made, folder)
        (tmp_path / f"{number}.log").write_text(log)
        (tmp_path / f"{number}.out").write_text(f"{artifact}\n" if code == 0 else "")
        task = Task(
            command=(),
            folder=str(tmp_path),
            environment={},
            log=str(tmp_path / f"{number}.log"),
            out=str(tmp_path / f"{number}.out"),
        )
        exit = Exit(code=code, seconds=12.34, peak_bytes=400_000_000)
        return outcomes.outcome_of(job, exit, task, outputs, stopped=stopped)

    return ended


@pytest.fixture
def rows(end: End, make_job: MakeJob) -> list[Row]:
    wrong = dataclasses.replace(
        make_job(5), request=None, refusal="x.yaml:1:1: error[B0213]: seed: must be a number\n  1 | s"
    )
    long = "compression=palettize_4,precision=fp16,substitutions=relu6_to_relu,target=ios18"
    ended = [
        end(1, 0, variant=long),
        end(2, 5, "error[B0501]: structure: too large\n"),
        end(3, -9),
        end(4, 4, "error[B0401]: no lowering for `svd`\n"),
        outcomes.refused(wrong),
        outcomes.not_started(make_job(6)),
        end(7, 0, "up to date: it (default)\n"),
        end(8, 130, stopped=True),
    ]
    return [row_of(outcome) for outcome in ended]


def test_every_end_has_a_word(rows: list[Row]) -> None:
    assert [row.outcome.status for row in rows] == [
        "built", "broken", "killed", "failed", "wrong", "not started", "up to date", "interrupted",
    ]  # fmt: skip
    assert [row.outcome.exit_code for row in rows] == [0, 5, 1, 4, 2, 130, 0, 130]
    assert [row.outcome.succeeded for row in rows] == [True, False, False, False, False, False, True, False]


def test_the_csv_has_plain_numbers(rows: list[Row], record: BuildRecord) -> None:
    read = list(csv.DictReader(io.StringIO(render_csv(rows))))
    built, broken, killed = read[:3]
    assert built["bytes"] == str(record.artifact.size_bytes)
    assert built["digest"] == record.artifact.digest
    assert built["seconds"] == "12.34"
    assert built["peak_bytes"] == "400000000"
    assert built["structure.verdict"] == "passed"
    assert built["structure.bytes"] == "6912345"
    assert built["parity.snr_db"] == "48.31234"  # the worst over all outputs
    assert built["capture.snr_db"] == "inf"
    assert broken["structure.verdict"] == "failed"
    assert broken["parity.snr_db"] == ""
    assert broken["message"] == "structure: too large"
    assert killed["message"] == "ended by SIGKILL, most likely because memory ran out"
    assert read[4]["message"] == "seed: must be a number"
    assert [row["job"] for row in read] == list("12345678")


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_table_fits_the_terminal_and_hides_nothing(rows: list[Row], width: int) -> None:
    # given a terminal of that width
    stream = io.StringIO()
    print_table(rows, Console(file=stream, width=width, highlight=False, markup=False))
    text = stream.getvalue()
    table = text[: text.index("\n  2  ")]

    # then no line of the table is longer, and each fact is on it
    assert max(len(line.rstrip()) for line in table.splitlines()) <= width
    for fact in ("compression=palettize_4", "substitutions=relu6_to_relu", "killed", "not started", "48.31", "12.3 s"):
        assert fact in table
    assert "  4  no lowering for `svd`" in text


def test_on_a_wide_terminal_each_check_has_a_column(rows: list[Row]) -> None:
    stream = io.StringIO()
    print_table(rows, Console(file=stream, width=200, highlight=False, markup=False))
    head = stream.getvalue().splitlines()[0]
    assert [word for word in head.split() if word in ("structure", "capture", "parity")] == [
        "structure", "capture", "parity",
    ]  # fmt: skip
    assert "checks" not in head


def test_the_sweep_is_one_flat_run(rows: list[Row]) -> None:
    run = summary_run(rows, sweep_id="s1", arguments=["recipe=x", "seed=1,2"], started=1000.0, ended=1060.5)
    assert (run.name, run.status, run.ended_ms - run.started_ms) == ("sweep s1", "FAILED", 60_500)
    assert run.tags["sweep_id"] == "s1"
    assert run.tags["builder.kind"] == "sweep"
    assert run.params == {"arguments": "recipe=x seed=1,2"}
    assert run.metrics["jobs/total"] == 8
    assert run.metrics["jobs/up_to_date"] == 1
    name = f"{rows[6].recipe}/{rows[6].variant}".replace("=", "_")
    assert run.metrics[f"bytes/{name}"] == rows[6].size_bytes
    assert run.metrics[f"parity/snr_db/{name}"] == 48.31234
    assert f"capture/snr_db/{name}" not in run.metrics  # infinity is not a metric
    assert "| 2 | " in run.tags["mlflow.note.content"]


def test_a_sweep_is_recorded_once_for_each_place(end: End) -> None:
    # given three jobs, two of which go to the same experiment, one of them required
    rows = []
    for number, tracking in enumerate(
        [
            MlflowTracking(kind="mlflow"),
            MlflowTracking(kind="mlflow", required=True),
            MlflowTracking(kind="mlflow", experiment="other"),
        ],
        start=1,
    ):
        outcome = end(number, 0)
        request = outcome.job.request
        assert request is not None
        spec = request.spec.model_copy(update={"tracking": tracking})
        job = dataclasses.replace(outcome.job, request=dataclasses.replace(request, spec=spec))
        rows.append(row_of(dataclasses.replace(outcome, job=job)))

    # then there are two places, and what is required stays so
    assert [(t.experiment, t.required) for t in trackings(rows)] == [("builder", True), ("other", False)]


def test_a_cell_shows_what_was_measured_and_a_count_of_nan_only_where_there_are_some(record: BuildRecord) -> None:
    # given a check whose first limit is on NaN
    limits = {"nan_count": {"max": 0}, "snr_db": {"min": 30}}
    (check, *_) = record.checks
    right, wrong = (
        dataclasses.replace(check, limits=limits, values={"y": {"nan_count": count, "snr_db": 41.5}})
        for count in (0, 3)
    )
    # then
    assert leading(right) == ("snr_db", 41.5)
    assert leading(wrong) == ("nan_count", 3)


def test_no_cell_of_the_csv_is_a_formula(rows: list[Row]) -> None:
    evil = '=HYPERLINK("x")\x1b[2J'
    hostile = [dataclasses.replace(row, recipe=evil, variant="+1+1", digest="@x") for row in rows]
    hostile[0] = dataclasses.replace(
        hostile[0], checks={evil: next(row.checks for row in rows if row.checks)["parity"]}
    )
    text = render_csv(hostile)
    for cell in (cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row):
        if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
            float(cell)
        assert "\x1b" not in cell
    head, first = list(csv.reader(io.StringIO(text, newline="")))[:2]
    assert first[head.index("recipe")] == '\'=HYPERLINK("x")\\x1b[2J'
    assert any(name.startswith("'=HYPERLINK") for name in head)
