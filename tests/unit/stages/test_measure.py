"""What each compression step costs is measured alone, and is what builds of fewer steps say of their artifacts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import coreml_runtime as runtime
from builder.__main__ import main
from builder.engine.run import stage_names
from builder.engine.table import STAGES
from builder.reports.build_json import read_build_json
from builder.spec import BuildSpec
from builder.util.measures import compare

STEPS: dict[str, Any] = {
    "first": {"kind": "post_training_quantize", "modules": ["0", "2"]},
    "second": {"kind": "palettize", "nbits": 4, "names": ["model_4_weight*"]},
    "third": {"kind": "linear_quantize", "granularity": "per_tensor", "names": ["model_4_weight*"]},
}
"""A step in PyTorch, and two on the program, one upon the other."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    shutil.copy(Path(__file__).parents[1] / "debugging/planted.py", tmp_path)
    (tmp_path / "recipes").mkdir()


def build(*names: str, overrides: tuple[str, ...] = (), target: str = "ios18") -> dict[str, Any]:
    """A build with these steps."""
    recipe = {
        "schema": 1,
        "defaults": [{"precision": "fp16"}, {"target": target}, {"checks": "default"}, {"tracking": "none"}],
        "source": {"kind": "python", "factory": "planted:sound", "seed": 3},
        "input": {"x": {"kind": "tensor", "shape": [1, 3, 16, 16]}},
        "compression": {name: STEPS[name] for name in names},
        "checks": {"parity": {"snr_db": {"min": 10}}},
    }
    name = "_".join(names) or "plain"
    Path(f"recipes/{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert main([f"recipe={name}", "-q", *overrides]) == 0
    return read_build_json(Path("outputs") / name / (",".join(o for o in overrides if "checks" not in o) or "default"))


def parity(document: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = next(check for check in document["checks"] if check["name"] == "parity")["values"]
    return values


def executed(document: dict[str, Any]) -> torch.Tensor:
    given = np.random.default_rng(5).standard_normal((1, 3, 16, 16)).astype(np.float32)
    return torch.as_tensor(runtime.load(document["artifact"]["path"]).predict({"x": given})["output"])


def test_every_step_stands_in_one_list_with_what_it_costs() -> None:
    # given the recipe with all steps, and those with fewer
    whole, two, one = build(*STEPS), build("first", "second"), build("first")
    # then the list has the steps of both kinds in their order, each measured
    steps = whole["compression"]
    assert [(step["name"], step["engine"]) for step in steps] == [
        ("first", "pytorch"), ("second", "runtime"), ("third", "runtime"),
    ]  # fmt: skip
    assert all(
        {"max_abs", "relative_error", "snr_db", "psnr_db", "cosine"} <= step["alone"]["output"].keys() for step in steps
    )
    # and what is said of the model after each is what the parity check says of an artifact that ends there
    assert steps[2]["so_far"] == parity(whole)
    assert steps[1]["so_far"] == parity(two)
    assert whole["conversion"]["outputs"] == parity(one)
    assert steps[0]["so_far"] == steps[0]["alone"]
    # and the cost alone is about what two artifacts differ by on other inputs
    for step, before, after in ((steps[1], one, two), (steps[2], two, whole)):
        apart = compare(executed(before), executed(after)).snr_db
        assert step["snr_db"] == step["alone"]["output"]["snr_db"]
        assert abs(apart - step["snr_db"]) < 6
    assert [stage["name"] for stage in whole["stages"]][-2:] == ["verify", "measure"]
    assert [stage["name"] for stage in one["stages"]][-1] == "verify"  # nothing on the program: parity says it


@pytest.mark.slow
def test_the_store_has_it_and_other_samples_measure_anew(capsys: pytest.CaptureFixture[str]) -> None:
    first = build("second", "third")
    # another limit of another check measures nothing again; what decides about the samples does
    capsys.readouterr()
    assert main(["recipe=second_third", "checks.structure.bytes.max=1000000"]) == 0
    assert "measure       cached" in capsys.readouterr().err
    assert main(["recipe=second_third", "checks.parity.samples=2"]) == 0
    assert "measure       cached" not in capsys.readouterr().err
    fewer = read_build_json(Path("outputs/second_third/default"))
    assert fewer["conversion"]["samples"] == 2
    # and the program between both steps, which the store does not keep, is made again as it was
    for action in store().glob("actions/measure/*.json"):
        action.unlink()
    again = build("second", "third")
    assert again["compression"] == first["compression"]
    # the plan names the stage
    assert main(["plan", "recipe=second_third"]) == 0
    assert ["measure", "hit"] in [line.split()[:2] for line in capsys.readouterr().out.splitlines()]


def store() -> Path:
    from builder.noop import cache_folder

    return Path(cache_folder()) / "store"


def test_labelled_data_says_how_many_are_right_after_each_step() -> None:
    # given a classifier of pictures whose last step costs answers
    recipe = {
        "schema": 1,
        "defaults": ["digits_mobilenet", {"tracking": "none"}, {"target": "ios18"}],
        "compression": {
            "fine": {"kind": "prune", "target_sparsity": 0.05},
            "coarse": {"kind": "palettize", "nbits": 1},
        },
        "checks": {
            "parity": {"samples": 2, "snr_db": {"min": -50}},
            "accuracy": {"accuracy": {"min": 0.0}, "drop": None},
        },
    }
    recipe["checks"]["accuracy"]["samples"] = 60
    Path("recipes/labelled.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    # when it is built
    assert main(["recipe=labelled", "-q"]) == 0
    # then the accuracy after the last step is what the check says of the artifact, and less than before it
    document = read_build_json(Path("outputs/labelled/default"))
    said = next(check for check in document["checks"] if check["name"] == "accuracy")["values"]
    fine, coarse = (step["so_far"]["probabilities"] for step in document["compression"])
    assert coarse["accuracy"] == said["accuracy"]
    before = document["conversion"]["outputs"]["probabilities"]
    assert coarse["accuracy"] < 0.9 < fine["accuracy"] <= 1
    assert before["accuracy"] == pytest.approx(said["original_accuracy"], abs=0.02)


def test_nothing_is_measured_without_a_parity_check(capsys: pytest.CaptureFixture[str]) -> None:
    document = build("second", "third", overrides=("checks=none",))
    assert document["conversion"] is None
    assert [step["snr_db"] for step in document["compression"]] == [None, None]
    assert "this recipe has none" in Path("outputs/second_third/default/report.html").read_text()


@pytest.mark.slow
def test_a_neural_network_is_measured_too() -> None:
    build("second")
    overrides = ("compression=int8", "format=mlmodel", "precision=fp32", "target=ios14")
    document = build("second", overrides=overrides)
    (step,) = document["compression"]
    assert step["so_far"] == parity(document)
    assert 20 < step["snr_db"] < document["conversion"]["outputs"]["output"]["snr_db"]


def test_the_stage_is_there_where_there_are_steps_and_samples() -> None:
    given = {
        "source": {"kind": "python", "factory": "a:b"}, "input": {"x": {"kind": "tensor", "shape": [1]}},
        "precision": {"kind": "fp16"}, "target": {"name": "ios18"}, "tracking": {"kind": "none"},
    }  # fmt: skip
    steps, check = {"compression": {"palettize": {"nbits": 4}}}, {"checks": {"parity": {"kind": "parity"}}}
    specs = [BuildSpec.model_validate({**given, **more}) for more in (steps, check, {**steps, **check})]
    ends = [list(stage_names(STAGES, spec))[-1] for spec in specs]
    assert ends == ["verify", "verify", "measure"]
