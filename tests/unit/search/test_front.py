"""The front holds exactly the complete trials that no other one beats, and the winner is one of them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.search.front import front_of, winner_of
from builder.search.plots import _dimension, write_page
from builder.search.settings import Search
from builder.search.table import render_csv
from tests.unit.search.conftest import OBJECTIVES, SPACE, MakeSearch, trial

VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, math.inf])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), max_size=12))
def test_the_front_is_what_optuna_calls_the_best_trials(values):
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(directions=["minimize", "maximize"])
    for pair in values:
        study.add_trial(optuna.trial.create_trial(values=list(pair)))
    search = Search.model_validate({"space": SPACE, "objectives": OBJECTIVES})

    front = front_of([trial(n, *pair) for n, pair in enumerate(values, start=1)], search.objectives)

    assert {tuple(t.values.values()) for t in front} == {tuple(t.values) for t in study.best_trials}
    assert len({tuple(t.values.values()) for t in front}) == len(front)


def test_what_does_not_count_is_not_on_the_front(make_search: MakeSearch) -> None:
    trials = [trial(1, 1.0, 9.0, state="infeasible"), trial(2, 2.0, 8.0), trial(3, values={}, state="pruned")]
    assert [t.number for t in front_of(trials, make_search().objectives)] == [2]


def test_the_winner_is_the_nearest_to_the_best_in_all_or_the_best_in_one(make_search: MakeSearch) -> None:
    front = [trial(1, 10.0, 5.0), trial(2, 20.0, 40.0), trial(3, 100.0, 50.0), trial(4, 200.0, math.inf)]
    assert [winner_of(front, make_search(winner=w)) for w in ("balanced", "size", "quality")] == [
        front[1],
        front[0],
        front[3],
    ]
    assert winner_of([], make_search()) is None


def test_texts_of_trials_are_neither_formulas_nor_markup(make_search: MakeSearch, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    search = make_search()
    evil = "=1+1\u202e</script><script>alert(1)</script>"
    trials = [replace(trial(1, 10.0, 5.0), reason=evil, arguments=(evil,)), trial(2, 20.0, 40.0)]

    cells = [cell for row in csv.reader(io.StringIO(render_csv(trials, search), newline="")) for cell in row]
    assert f"'{evil}".replace("\u202e", "\\u202e") in cells
    assert not [cell for cell in cells if cell.startswith("=")]

    write_page(tmp_path / "front.html", evil, trials, None, search)
    page = (tmp_path / "front.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page
    assert "\u202e" not in page.partition("<script")[0]
    assert "default-src 'none'" in page.partition("<script")[0]


@pytest.mark.parametrize("snr", [[math.inf], [math.inf, 40.0, 50.0]])
def test_an_exact_artifact_is_on_the_page(snr: list[float], make_search: MakeSearch, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    # given trials whose last objective, by which lines are coloured, is infinite
    trials = [trial(n, float(n), value) for n, value in enumerate(snr, start=1)]
    write_page(tmp_path / "front.html", "exact", trials, None, make_search())
    assert '"inf"' in (tmp_path / "front.html").read_text(encoding="utf-8")


def test_what_is_no_number_stands_beyond_those_that_are() -> None:
    assert _dimension("x", [10.0, 20.0])["values"] == [10.0, 20.0]
    axis = _dimension("x", [10.0, 20.0, math.inf, None, -math.inf])
    assert axis["values"] == [10.0, 20.0, 22.0, 6.0, 8.0]
    assert dict(zip(axis["ticktext"], axis["tickvals"], strict=True)) == {
        "10": 10.0, "20": 20.0, "inf": 22.0, "-inf": 8.0, "–": 6.0,
    }  # fmt: skip
