"""A few of the tests of `python -m tests.conformance.migration`: draws, loops and sizes by values are among them."""

from pathlib import Path

import pytest

from tests import warm
from tests.conformance.migration import run
from tests.conformance.suites import Suite

_IDS = Path(__file__).with_name("migration_sample.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.timeout(300)
def test_every_model_of_the_sample_travels_with_the_same_values(tmp_path: Path) -> None:
    # given
    modules = sorted({test.partition(".py::")[0].replace("/", ".") for test in _IDS})
    # when
    suite = Suite(name="sample", title="", modules=tuple(modules), goal=1.0)
    rows = run(suite, _IDS, tmp_path, python=warm.python())
    # then
    assert [(row["test"], row["outcome"], row["reason"]) for row in rows if row["outcome"] != "same"] == []
    assert {row["test"] for row in rows} == set(_IDS)
