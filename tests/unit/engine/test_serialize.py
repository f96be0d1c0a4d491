"""What the store keeps comes back as it was, and a record of another shape is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.artifacts.checks import CheckedOutput, CheckedPicture, CheckReport
from builder.artifacts.stages import FlexibleSize, PreparedFacts
from builder.artifacts.stored import LoadedFacts, SensitivityFacts, VerifiedFacts
from builder.engine.serialize import UnreadableError, dump, load
from builder.store.objects import Objects

LOADED = LoadedFacts(
    digest="d",
    origin={"kind": "python"},
    seeded=False,
    preprocessing=None,
    labels=("a",),
    source_bytes=4,
    fallback=None,
)
FOREIGN = dataclasses.replace(LOADED, origin={"class": "Net", "kind": "of_a_plugin", "name": None, "own": [1]})
"""Of a kind of source that knows more than ours do."""
MEASURED = SensitivityFacts(
    measured={"layers": [{"weights": ["a", "b"], "costs": {"none": [512, 0.0], "int8": [128, 0.5]}}]}
)
PREPARED = PreparedFacts(
    output_names=("y",),
    labels=None,
    flexible=({2: FlexibleSize(name="n", min=1, max=9)}, {}),
    normalization={"image": {"scale": (0.1,), "bias": (-1.0,)}},
)


def verified(png: bytes) -> VerifiedFacts:
    output = CheckedOutput(name="y", reference="1", artifact="2", reference_png=png)
    picture = CheckedPicture(
        input="image",
        png=png,
        label=None,
        reference_top=(("cat", 0.5),),
        artifact_top=(),
        engine="runtime",
        outputs=(output,),
    )
    report = CheckReport(
        name="parity", kind="parity", engine="runtime", values={"y": {"snr_db": math.inf}}, limits={}, passed=True,
        pictures=(picture,), worst_input=b"npz", failed_on={"y": (3, 1)},
    )  # fmt: skip
    return VerifiedFacts(checks=(report,))


def through_the_store(facts: Any, objects: Objects) -> Any:
    record, digests = dump(facts, objects)
    return load(type(facts), json.loads(json.dumps(record)), digests, objects)


@pytest.mark.parametrize(
    "facts", [LOADED, FOREIGN, PREPARED, MEASURED], ids=["load", "load of another kind", "prepare", "sensitivity"]
)
def test_facts_come_back_equal(facts: Any, tmp_path: Path) -> None:
    back = through_the_store(facts, Objects(tmp_path))
    assert back == facts
    assert json.dumps(dump(back, Objects(tmp_path))[0]) == json.dumps(dump(facts, Objects(tmp_path))[0])


def test_bytes_are_objects_of_their_own(tmp_path: Path) -> None:
    objects = Objects(tmp_path)
    record, digests = dump(verified(b"\x89PNG\xff"), objects)
    assert "PNG" not in json.dumps(record)
    assert sorted(digests) == ["bytes 0", "bytes 1", "bytes 2"]
    back = load(VerifiedFacts, record, digests, objects)
    assert back == verified(b"\x89PNG\xff")
    assert back.checks[0].pictures[0].outputs[0].artifact_png is None


def test_a_damaged_or_missing_object_is_refused(tmp_path: Path) -> None:
    objects = Objects(tmp_path)
    record, digests = dump(verified(b"png"), objects)
    with pytest.raises(UnreadableError):
        load(VerifiedFacts, record, {}, objects)
    objects.path(digests["bytes 0"]).write_bytes(b"other")
    with pytest.raises(UnreadableError):
        load(VerifiedFacts, record, digests, objects)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(sorted(LOADED.__dataclass_fields__)), JSON)
def test_another_value_is_refused_or_of_the_same_type(name: str, value: Any) -> None:
    objects = Objects(Path("nowhere"))
    record, _ = dump(LOADED, objects)
    try:
        back = load(LoadedFacts, {**record, name: value}, {}, objects)
    except UnreadableError:
        return
    assert isinstance(back.origin, dict)
    assert isinstance(back.digest, str)
    assert isinstance(back.source_bytes, int)
    assert back.labels is None or isinstance(back.labels, tuple)


@pytest.mark.parametrize("name", sorted(LOADED.__dataclass_fields__))
def test_a_missing_field_is_refused(name: str, tmp_path: Path) -> None:
    record, _ = dump(LOADED, Objects(tmp_path))
    del record[name]
    with pytest.raises(UnreadableError):
        load(LoadedFacts, record, {}, Objects(tmp_path))
