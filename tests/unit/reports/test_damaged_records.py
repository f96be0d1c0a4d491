"""A `build.json` that others wrote, or that is damaged, ends no verb with a traceback, and blocks none."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.__main__ import main
from builder.reports.build_json import SCHEMA, read_build_json

HONEST: dict[str, Any] = {
    "schema": SCHEMA,
    "recipe": "some/tiny",
    "variant": "default",
    "artifact": {"path": "/x/tiny.mlmodel", "format": "mlmodel", "digest": f"sha256:{'0' * 64}", "bytes": 5},
    "stages": [{"name": "load", "key": "sha256:0", "cached": False, "seconds": 1.5, "result": "net:make"}],
    "checks": [
        {"name": "parity", "engine": "runtime", "values": {"y": {"snr_db": "inf"}}, "limits": {"snr_db": {"min": 1}},
         "passed": None, "verdict": "skipped"}
    ],
    "config": {"input": {}},
    "headroom": [{"operators": [{"name": "x", "module": "a", "line": ""}]}],
    "costs": [{"operators": []}],
    "devices": [],
}  # fmt: skip
DAMAGED: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: (path / "build.json").mkdir(parents=True),
    "deep": lambda path: path.write_text("[" * 100_000),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe{"),
    "half a pair": lambda path: path.write_text('{"schema": 1, "recipe": "\\ud800"}'),
    "list": lambda path: path.write_text("[]"),
}


def changed(place: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(HONEST)
    *way, last = place.split(".")
    parent: Any = document
    for name in way:
        parent = parent[int(name) if isinstance(parent, list) else name]
    parent[last] = value
    return document


def test_an_honest_record_is_read(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(json.dumps(HONEST))
    assert read_build_json(tmp_path) == HONEST


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_record_is_refused(kind: str, tmp_path: Path) -> None:
    DAMAGED[kind](tmp_path / "build.json")
    with pytest.raises(ValueError, match=r"build\.json"):
        read_build_json(tmp_path / "build.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("recipe", 5),
        ("recipe", "../../victim"),
        ("variant", "/victim"),
        ("artifact", []),
        ("artifact.path", None),
        ("artifact.path", ""),
        ("artifact.digest", "sha256:../../victim"),
        ("config", None),
        ("stages", 1),
        ("stages.0.name", []),
        ("checks", {"a": 1}),
        ("checks.0.values", []),
        ("checks.0.limits", {"snr_db": 1}),
        ("headroom.0.operators", None),
        ("headroom.0.operators.0.module", 5),
        ("costs", [1]),
        ("devices", [1]),
    ],
)
def test_a_value_of_another_kind_is_named(place: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(json.dumps(changed(place, value)))
    with pytest.raises(ValueError, match=rf"is damaged at {place.rpartition('.0')[0] or place.partition('.')[0]}"):
        read_build_json(tmp_path)


def test_a_pipe_beside_a_model_blocks_no_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a folder with a model, and a pipe where its record would be
    monkeypatch.chdir(tmp_path)
    Path("m.mlmodel").write_bytes(b"x")
    os.mkfifo("build.json")
    # when a verb looks for the record, then it ends, with words
    assert main(["device", "pack", "m.mlmodel"]) == 2
    assert "is not a regular file" in capsys.readouterr().err
