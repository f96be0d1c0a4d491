"""build.json: the contract's keys, valid JSON for every number, atomic, and read back checked."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from builder.artifacts.checks import CheckReport
from builder.artifacts.record import BuildRecord
from builder.reports.build_json import read_build_json, render_build_json, write_build_json
from builder.reports.plain import plain


def test_contract_keys_come_first_and_in_order(record: BuildRecord) -> None:
    document = json.loads(render_build_json(record))

    assert list(document)[:13] == [
        "schema", "recipe", "variant", "status", "key", "artifact", "stages", "checks", "inputs", "outputs",
        "source", "config", "versions",
    ]  # fmt: skip
    assert list(document["artifact"])[:4] == ["path", "format", "digest", "bytes"]
    assert set(document["stages"][0]) >= {"name", "key", "cached", "seconds"}
    assert set(document["checks"][0]) >= {"name", "engine", "values", "limits", "passed", "reason"}
    assert document["checks"][3]["passed"] is None
    assert document["seeded"] is False


def test_numbers_that_json_lacks_become_texts(make_record: Callable[..., BuildRecord]) -> None:
    check = CheckReport(
        name="parity", kind="parity", engine="runtime", passed=False, limits={},
        values={"snr_db": -math.inf, "max_abs": math.nan, "cosine": np.float32(0.5), "per": np.array([math.inf, 1])},
    )  # fmt: skip

    text = render_build_json(make_record(checks=(check,)))

    values = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["checks"][0]["values"]
    assert values == {"snr_db": "-inf", "max_abs": "nan", "cosine": 0.5, "per": ["inf", 1.0]}
    assert math.isnan(float(values["max_abs"]))


def test_dates_of_yaml_are_written_and_unknown_types_refused() -> None:
    assert plain({"day": date(2026, 1, 2)}) == {"day": "2026-01-02"}
    with pytest.raises(TypeError, match="no plain form"):
        plain({"what": object()})


def test_written_file_is_read_back_after_the_folder_moved(record: BuildRecord, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / record.artifact.path.name).mkdir()
    write_build_json(record, folder)
    moved = folder.rename(tmp_path / "moved")

    document = read_build_json(moved)

    assert document["artifact"]["path"] == str(moved / record.artifact.path.name)
    assert sorted(path.name for path in moved.iterdir()) == ["build.json", record.artifact.path.name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a build.json"),
        ("[]", "no `schema`"),
        ('{"schema": 99}', "schema 99, and this builder reads schema 1"),
    ],
)
def test_what_is_no_build_json_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "build.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=said):
        read_build_json(path)


def test_failed_write_leaves_the_old_file(record: BuildRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_build_json(record, tmp_path).read_text()

    def fail(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_build_json(record, tmp_path)

    assert (tmp_path / "build.json").read_text() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_the_target_is_written_with_the_name_that_coremltools_knows(make_record: Callable[..., BuildRecord]) -> None:
    # given a record for visionOS, which coremltools lacks
    record = make_record()
    spec = record.request.spec
    target = spec.target.model_copy(update={"name": "visionos2"})
    request = dataclasses.replace(record.request, spec=spec.model_copy(update={"target": target}))
    # when
    document = json.loads(render_build_json(dataclasses.replace(record, request=request)))
    # then
    assert document["target"] == {"name": "visionos2", "coremltools": "iOS18"}
