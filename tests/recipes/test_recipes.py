"""Every YAML in `recipes/` builds, and its artifact is right when it is executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coremltools.models.utils import load_spec

from builder.__main__ import main
from builder.backends import backend_of_file
from builder.backends.coreai.installed import is_installed
from tests.unit.swift.executed import package_of, require_golden

SLOW = (
    "digits_aimodel_palettize_6", "digits_mobilenet_joint", "faster_rcnn", "mobilenet_v2_aimodel", "mobilenet_v2_fp32",
    "mobilenet_v2_mlmodel", "mobilenet_v2_relu", "qwen3_decoder", "qwen3_decoder_aimodel", "retinanet",
    "segmentation_matte", "ssdlite", "whisper_decoder",
)  # fmt: skip
"""Those that take longest, and those whose like is built by a test of its own."""
CORE_AI = pytest.mark.skipif(not is_installed(), reason="needs the extra coreai, which has wheels for few machines")
RECIPES = [
    pytest.param(
        path.stem,
        marks=[
            *([pytest.mark.slow] if path.stem in SLOW else []),
            *([CORE_AI] if "aimodel" in path.stem else []),
        ],
    )
    for path in sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_builds(recipe, tmp_path, monkeypatch, capsys):
    # given a machine without network
    monkeypatch.chdir(tmp_path)
    # when
    code = main([f"recipe={recipe}", "tracking=none", "-q"])
    # then
    out, err = capsys.readouterr()
    assert code == 0, err
    artifact = Path(out.splitlines()[-1])
    backend_of_file(artifact).describe(artifact)
    record = json.loads((artifact.parent / "build.json").read_text())
    assert record["status"] == "built"
    executed = [check for check in record["checks"] if check["engine"] == "runtime"]
    assert executed, "an artifact that was not executed proves nothing"
    assert all(check["passed"] for check in record["checks"]), record["checks"]
    assert {path.name for path in artifact.parent.iterdir()} - {"worst_inputs"} == {
        artifact.name,
        "build.json",
        "build.log",
        "report.html",
    }
    # and its Swift package is in the grammar, with golden numbers that the artifact in it gives
    assert main(["package", str(artifact), "-q"]) == 0
    package = package_of(artifact)
    assert require_golden(tmp_path / "outputs" / "packages" / package.module, package) > 0


def test_a_seeded_build_says_so_everywhere(tmp_path, monkeypatch, capsys):
    # given
    monkeypatch.chdir(tmp_path)
    # when
    code = main(["recipe=mobilenet_v2_fp16", "tracking=none", "checks=none"])
    # then: on the terminal, in the variant's name, in build.json and in the artifact
    out, err = capsys.readouterr()
    assert code == 0
    assert "UNTRAINED" in err
    artifact = Path(out.strip())
    assert artifact.parent.name == "seeded"
    assert json.loads((artifact.parent / "build.json").read_text())["seeded"] is True
    assert load_spec(str(artifact)).description.metadata.userDefined["com.github.builder.seeded"] == "true"


def test_a_missed_limit_is_exit_5_and_leaves_the_good_artifact(tmp_path, monkeypatch, capsys):
    # given a good build
    monkeypatch.chdir(tmp_path)
    assert main(["recipe=digits_mobilenet", "tracking=none", "-q", "checks.accuracy.samples=20"]) == 0
    good = Path(capsys.readouterr().out.strip())
    before = (good.parent / "build.json").read_text()
    # when the same variant misses a limit (checks do not change the variant); -q looks for no cause, test_cause.py does
    limit = "checks.parity.snr_db.min=200"
    code = main(["recipe=digits_mobilenet", "tracking=none", "-q", limit, "checks.accuracy.samples=20"])
    # then
    out, err = capsys.readouterr()
    assert code == 5
    assert out == ""
    assert "snr_db" in err
    assert "stale" in err
    assert (good.parent / "build.json").read_text() == before
    broken = tmp_path / "outputs" / "broken" / "digits_mobilenet" / "default"
    assert json.loads((broken / "build.json").read_text())["status"] == "broken"
    assert (broken / "digits_mobilenet.mlpackage").is_dir()
