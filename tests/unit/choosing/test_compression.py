"""`compression: auto` is never larger than one method for all layers, keeps the limits, and measures layers once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.__main__ import main
from builder.auto import choose
from builder.reports.build_json import read_build_json

LIMIT = "checks.parity.snr_db.min=25"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    shutil.copy(Path(__file__).parents[1] / "debugging/planted.py", tmp_path)
    (tmp_path / "recipes").mkdir()
    chosen = {"precision": "fp16", "compression": "auto", "target": "ios16", "checks": "default", "tracking": "none"}
    recipe = {
        "schema": 1,
        "defaults": [{group: option} for group, option in chosen.items()],
        "source": {"kind": "python", "factory": "planted:sound", "seed": 3},
        "input": {"x": {"kind": "tensor", "shape": [1, 3, 16, 16]}},
    }
    (tmp_path / "recipes/small.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def record(folder: str = "small/checks.parity.snr_db.min=25") -> dict[str, Any]:
    return read_build_json(Path("outputs") / folder)


def snr(document: dict[str, Any]) -> float:
    parity = next(check for check in document["checks"] if check["name"] == "parity")
    return float(parity["values"]["output"]["snr_db"])


@pytest.mark.slow
def test_no_uniform_method_that_passes_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["recipe=small", LIMIT, "-q"]) == 0
    built = record()
    tried = built["chosen"]["tried"]
    uniform = [entry for entry in tried if entry["what"].endswith("for all layers")]
    assert {entry["what"].split()[0] for entry in uniform} == {
        "int8", "palettize_8", "palettize_6", "palettize_4", "palettize_2", "prune_50",
    }  # fmt: skip
    assert snr(built) >= 25
    passing = [entry["bytes"] for entry in uniform if entry["passed"]]
    assert passing
    assert built["artifact"]["bytes"] < min(passing)  # the two layers bear different methods
    assert built["chosen"]["compression"]
    # every answer was measured by the checks: what they said of it is what the build's checks say
    same = next(entry for entry in tried if entry["bytes"] == built["artifact"]["bytes"] and entry["passed"])
    assert same["values"]["parity.snr_db"] == pytest.approx(snr(built))
    # the recipe beside it gives the same artifact
    (beside,) = Path("outputs/small/checks.parity.snr_db.min=25").glob("*.yaml")
    monkeypatch.setenv("BUILDER_RECIPES", str(beside.parent))
    assert main([f"recipe={beside.stem}", "-q"]) == 0
    assert record(f"{beside.stem}/default")["artifact"]["digest"] == built["artifact"]["digest"]


@pytest.mark.slow
def test_core_ai_has_a_method_for_each_layer_too() -> None:
    pytest.importorskip("coreai", reason="needs the extra coreai, which has wheels for Linux x86-64 and macOS alone")
    # of a picture too, which an asset takes as an array of levels
    recipe = yaml.safe_load(Path("recipes/small.yaml").read_text())
    recipe["input"]["x"] |= {"kind": "image", "scale": 1 / 64, "bias": [-2.0, -2.0, -2.0]}
    Path("recipes/small.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert main(["recipe=small", LIMIT, "format=aimodel", "-q"]) == 0
    built = record("small/checks.parity.snr_db.min=25,format=aimodel")
    tried = built["chosen"]["tried"]
    passing = [each["bytes"] for each in tried if each["what"].endswith("for all layers") and each["passed"]]
    assert built["artifact"]["bytes"] < min(passing)
    assert snr(built) >= 25
    assert {name for step in built["chosen"]["compression"].values() for name in step["names"]} == {
        "2.weight", "4.weight",
    }  # fmt: skip


@pytest.mark.slow
def test_another_limit_measures_no_layer_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["choose", "recipe=small", LIMIT, "-q"]) == 0

    def again(*_: object) -> None:
        raise AssertionError("the sensitivity of layers was measured again")

    monkeypatch.setattr(choose, "measure_layers", again)
    assert main(["recipe=small", "checks.parity.snr_db.min=35", "-q"]) == 0
    assert snr(record("small/checks.parity.snr_db.min=35")) >= 35


@pytest.mark.slow
def test_the_best_below_a_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe=small", "compression.auto.max_bytes=24000", "checks.parity.snr_db.min=1", "-q"]) == 0
    (folder,) = Path("outputs/small").iterdir()
    built = read_build_json(folder)
    assert built["artifact"]["bytes"] <= 24000
    tried = built["chosen"]["tried"]
    best = max(entry["values"]["parity.snr_db"] for entry in tried if entry["bytes"] <= 24000)
    assert snr(built) == pytest.approx(best)
    assert any(entry["bytes"] > 24000 for entry in tried)
    # what cannot be is said with the least that can
    assert main(["recipe=small", "compression.auto.max_bytes=100"]) == 4
    said = capsys.readouterr().err
    assert "at most 100 bytes: the smallest has" in said
    assert "compression.auto.max_bytes=100" in said


def test_a_model_that_does_not_pass_anyway_is_not_compressed() -> None:
    assert main(["recipe=small", "checks.parity.snr_db.min=400", "-q"]) == 5
    (folder,) = Path("outputs/broken/small").iterdir()
    chosen = json.loads((folder / "build.json").read_text())["chosen"]
    assert chosen["compression"] == {}
    assert "without any compression" in chosen["notes"][0]


@pytest.mark.slow
def test_both_are_decided_the_precision_first() -> None:
    assert main(["recipe=small", "precision=auto", LIMIT, "-q"]) == 0
    (folder,) = Path("outputs/small").iterdir()
    chosen = read_build_json(folder)["chosen"]
    assert chosen["precision"] == {"kind": "fp16"}
    assert chosen["compression"]
