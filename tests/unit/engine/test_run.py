"""The table of stages: the order, what each may read, and what the store keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.artifacts.stages import BuildRequest
from builder.engine.run import Inputs, Run, RunContext, StageRow, stage_names
from builder.engine.runner import CacheMissError, Packed, StageTask, open_runner
from builder.engine.table import COMPRESS, LOAD, STAGES
from builder.progress import Silent
from builder.spec import BuildSpec


@dataclass(frozen=True, kw_only=True)
class Count:
    """The facts of a toy stage."""

    number: int


def row(name: str, reads: tuple[StageRow[int, Count], ...], compute: Callable[[Inputs], int]) -> StageRow[int, Count]:
    def task(inputs: Inputs) -> StageTask[int, Count]:
        return inputs.task(
            Count,
            run=lambda: compute(inputs),
            describe=str,
            pack=lambda number, _: Packed(output=f"sha256:{number:064x}", facts=Count(number=number)),
            restore=lambda stage: stage.facts.number,
            after={each.name: inputs[each].output for each in reads},
        )

    return StageRow(name=name, scope="build", reads=reads, task=task)


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildRequest:
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    spec = BuildSpec.model_validate(
        {
            "schema": 1, "source": {"kind": "python", "factory": "json:loads"},
            "input": {"x": {"kind": "tensor", "shape": [1, 8]}},
            "precision": {"kind": "fp16"}, "target": {"name": "ios16"}, "tracking": {"kind": "none"},
        }
    )  # fmt: skip
    return BuildRequest(recipe="toy", variant="default", spec=spec, overrides=(), config={}, origins={})


def started(table: tuple[StageRow[int, Count], ...], request: BuildRequest, *, peek: bool = False) -> Run:
    runner = open_runner(Silent(), peek=peek)
    return Run(RunContext(table=table, request=request, progress=Silent(), runner=runner, folder=Path()))


def test_a_table_of_toy_stages_runs_in_order_and_is_found_in_the_store_from_then_on(request_: BuildRequest) -> None:
    # given a stage that counts how often it runs, and one that reads it
    runs: list[str] = []
    first = row("load", (), lambda _: runs.append("first") or 20)
    second = row("prepare", (first,), lambda inputs: runs.append("second") or inputs[first].value() + 1)
    # when it runs twice, the second time without permission to run anything
    done = started((first, second), request_).advance()
    again = started((first, second), request_, peek=True).advance()
    # then
    assert runs == ["first", "second"]
    assert [run[second].value() for run in (done, again)] == [21, 21]
    assert [report.cached for report in again.context.runner.reports] == [True, True]


def test_another_result_of_a_stage_runs_those_that_read_it(request_: BuildRequest) -> None:
    first = row("load", (), lambda _: 20)
    second = row("prepare", (first,), lambda inputs: inputs[first].value() + 1)
    started((first, second), request_).advance()
    changed = request_.spec.model_copy(update={"seed": 7})
    other = BuildRequest(recipe="toy", variant="seed=7", spec=changed, overrides=(), config={}, origins={})
    with pytest.raises(CacheMissError) as miss:
        started((first, second), other, peek=True).advance()
    assert miss.value.stage == "load"


def test_a_stage_reads_no_other_than_its_row_names(request_: BuildRequest) -> None:
    first = row("load", (), lambda _: 20)
    second = row("prepare", (), lambda inputs: inputs[first].value())
    with pytest.raises(AssertionError, match="the table does not say that prepare reads load"):
        started((first, second), request_).advance()


def test_the_loop_stops_behind_a_stage(request_: BuildRequest) -> None:
    first, second = row("load", (), lambda _: 1), row("prepare", (), lambda _: 2)
    run = started((first, second), request_).advance(until=first)
    assert run[first].value() == 1
    assert second not in run.results


def test_every_row_reads_stages_before_it(request_: BuildRequest) -> None:
    order = list(stage_names(STAGES, request_.spec.model_copy(update={"checks": {}})))
    assert order == ["load", "prepare", "capture", "convert", "compress", "seal", "verify"]
    for step in STAGES:
        for read in step.reads if isinstance(step, StageRow) else ():
            assert any(read.name in before.names for before in STAGES[: STAGES.index(step)])
    assert LOAD not in COMPRESS.reads  # what a source is called changes no weights
