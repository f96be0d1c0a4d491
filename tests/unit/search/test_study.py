"""A study asks for no settings twice, goes on after a kill as if there had been none, and says when it is all done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.search import study as studies
from builder.search.settings import Search
from builder.search.space import Point, arguments_of, identity, points
from builder.search.study import PendingTrial, Study
from builder.search.trials import Trial
from builder.util.install import extra
from tests.unit.search.conftest import MakeSearch

WIDE: dict[str, Any] = {
    "method": {"kind": "choice", "choices": ["a", "b"]},
    "share": {"kind": "float", "min": 0.0, "max": 1.0, "when": {"method": ["a"]}},
    "bits": {"kind": "integer", "min": 1, "max": 200, "log": True},
}

MakeStudy = Callable[..., Study]


@pytest.fixture
def open_study(tmp_path: Path) -> MakeStudy:
    return lambda search, **what: Study(tmp_path / "study.db", search, {"space": "one", **what})


def answer(asked: PendingTrial, search: Search) -> Trial:
    """What a trial would measure: some fail, some miss a limit, some are pruned, the rest count."""
    number, cost = asked.number, float(len(identity(asked.point)))
    common: dict[str, Any] = {
        "number": number, "point": asked.point, "arguments": arguments_of(search.space, asked.point)
    }  # fmt: skip
    if number % 7 == 0:
        return Trial(**common, state="failed", reason="it broke")
    if number % 5 == 0:
        return Trial(**common, state="pruned", reason="hopeless")
    excess = 1.0 if number % 3 == 0 else 0.0
    state: Any = "infeasible" if excess else "complete"
    return Trial(**common, state=state, values={"size": cost, "quality": -cost}, excesses={"checks": excess})


def go_on(study: Study, search: Search, *, until: int = 10**9) -> None:
    while (asked := study.ask()) is not None:
        if asked.number > until:
            return  # killed while it runs
        study.tell(asked, answer(asked, search))


def asked_points(study: Study) -> list[Point]:
    return [trial.point for trial in study.trials()]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_study_that_is_killed_goes_on_as_if_it_had_not_been(
    sampler: str, tmp_path: Path, make_search: MakeSearch
) -> None:
    # given a study that runs through, and one that is killed in the middle of a trial and opened again
    search = make_search(space=WIDE, sampler=sampler, trials=14)
    whole = Study(tmp_path / "whole.db", search, {})
    go_on(whole, search)
    go_on(Study(tmp_path / "killed.db", search, {}), search, until=8)
    killed = Study(tmp_path / "killed.db", search, {})
    assert killed.resumed
    assert [t.state for t in killed.trials()].count("running") == 1

    # when that one goes on
    go_on(killed, search)

    # then it has the same trials, all of them, none twice
    trials = killed.trials()
    assert [t.number for t in trials] == list(range(1, 15))
    assert len({identity(t.point) for t in trials}) == 14
    assert asked_points(killed) == asked_points(whole)
    assert [t.state for t in trials] == [t.state for t in whole.trials()]
    assert trials[4].reason == "hopeless"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "grid"])
def test_a_finite_space_is_tried_whole_and_then_there_are_no_more(
    sampler: str, open_study: MakeStudy, make_search: MakeSearch
) -> None:
    search = make_search(sampler=sampler, trials=100)
    study = open_study(search)
    assert not study.is_exhausted()
    go_on(study, search)
    everything = points(search.space)
    assert everything is not None
    assert {identity(p) for p in asked_points(study)} == {identity(p) for p in everything}
    assert len(study.trials()) == len(everything) == 12
    assert study.is_exhausted()
    if sampler == "grid":
        assert asked_points(study) == everything


def test_several_trials_at_a_time_are_different_ones(open_study: MakeStudy, make_search: MakeSearch) -> None:
    search = make_search(trials=12)
    study = open_study(search)
    running = [study.ask() for _ in range(12)]
    assert study.ask() is None
    assert len({identity(asked.point) for asked in running if asked}) == 12


def test_a_kill_between_asking_and_running_loses_nothing(open_study: MakeStudy, make_search: MakeSearch) -> None:
    # given a study that was killed when the next settings were queued, and not yet asked for
    search = make_search(trials=3, space=WIDE)
    study = open_study(search)
    study._study.enqueue_trial({"method": "a", "share": 0.25, "bits": 3})

    # when it is opened again
    again = open_study(search)
    go_on(again, search)

    # then they are the first, and still there are as many as were asked for
    assert asked_points(again)[0] == {"method": "a", "share": 0.25, "bits": 3}
    assert len(again.trials()) == 3


def test_a_kill_while_a_trial_is_told_does_no_harm(open_study: MakeStudy, make_search: MakeSearch) -> None:
    search = make_search(trials=1)
    study = open_study(search)
    asked = study.ask()
    assert asked is not None
    asked.handle.set_constraint("checks", 0.0)  # killed after this
    again = open_study(search)
    go_on(again, search)
    assert [t.state for t in again.trials()] == ["complete"]


def test_values_without_a_bound_are_kept(open_study: MakeStudy, make_search: MakeSearch) -> None:
    search = make_search(trials=12)
    study = open_study(search)
    for number in range(12):
        asked = study.ask()
        assert asked is not None
        values = {"size": 5.0, "quality": float("inf") if number % 2 else 3.0}
        told = Trial(number=asked.number, point=asked.point, arguments=(), state="complete", values=values)
        study.tell(asked, told)
    assert [t.values["quality"] for t in study.trials()[:2]] == [3.0, float("inf")]


def test_more_trials_continue_a_study_and_another_space_does_not(
    open_study: MakeStudy, make_search: MakeSearch
) -> None:
    go_on(open_study(make_search(trials=2)), make_search(trials=2))
    longer = make_search(trials=5)
    study = open_study(longer)
    go_on(study, longer)
    assert len(study.trials()) == 5
    with pytest.raises(ConfigurationError, match="was begun with other space"):
        open_study(longer, space="two")


def test_without_optuna_it_says_how_to_install_it(
    open_study: MakeStudy, make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UnfitEnvironmentError, match="needs Optuna") as raised:
        open_study(make_search())
    assert raised.value.hint == extra("search")
    assert studies.FILE == "study.db"
