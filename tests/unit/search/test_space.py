"""A space has each of its points once, and a point says on the command line what was meant."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from builder.config.hydra.overrides import parse, plain
from builder.errors import Diagnostic
from builder.search.settings import Search
from builder.search.space import arguments_of, identity, points, text_of
from tests.unit.search.conftest import OBJECTIVES, MakeSearch

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="\\"), min_size=1)


@settings(deadline=None)
@given(SCALARS | WORDS | st.lists(st.sampled_from(["int8", "prune_50", "null", "a b"]), min_size=1))
def test_a_value_is_read_back_as_what_it_was(value):
    override = parse(f"some.key={text_of(value)}")
    assert not isinstance(override, Diagnostic)
    read = plain(override.value())
    assert read == value
    assert type(read) is type(value)


def test_all_points_in_their_order(make_search: MakeSearch) -> None:
    # given a space in which an entry counts under a condition only
    space = make_search().space

    # when its points are counted out
    found = points(space)

    # then every combination is there once, and the conditional entry only where its condition holds
    assert found is not None
    assert [arguments_of(space, point) for point in found] == [
        ("compression=none", "precision=fp16"),
        ("compression=none", "precision=fp32"),
        *(("compression=int8", f"precision={p}", f"a.bits={b}") for p in ("fp16", "fp32") for b in (2, 4, 6, 8)),
        ("compression=[prune_50,int8]", "precision=fp16"),
        ("compression=[prune_50,int8]", "precision=fp32"),
    ]
    assert len({identity(point) for point in found}) == len(found)


def test_a_continuous_range_has_no_end_of_points_unless_it_has_steps(make_search: MakeSearch) -> None:
    assert points(make_search(space={"x": {"kind": "float", "min": 0.0, "max": 1.0}}).space) is None
    steps = points(make_search(space={"x": {"kind": "float", "min": 0.1, "max": 0.45, "step": 0.1}}).space)
    assert steps is not None
    assert [point["x"] for point in steps] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "integer", "min": 8, "max": 2}, "its min 8 is above its max 2"),
        ({"kind": "float", "min": 0.0, "max": 1.0, "log": True}, "with log its min must be above 0"),
        ({"kind": "integer", "min": 1, "max": 8, "step": 2, "log": True}, "log and step do not go together"),
        ({"kind": "choice", "choices": []}, "at least 1 item"),
        ({"kind": "float", "min": 1.0}, "Field required"),
    ],
)
def test_an_entry_that_is_no_range_is_refused(entry: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Search.model_validate({"space": {"x": entry}, "objectives": OBJECTIVES})


def test_the_identity_of_a_number_keeps_all_its_digits() -> None:
    assert json.loads(identity({"x": 0.1 + 0.2}))["x"] == 0.1 + 0.2
