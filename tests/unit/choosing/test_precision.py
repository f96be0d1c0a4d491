"""`precision: auto` keeps in float32 what the checks need and nothing else, and says so in an ordinary recipe."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.__main__ import main
from builder.backends.coreml.precision import artifact_name
from builder.config.compose import compose
from builder.reports.build_json import read_build_json

IMAGE = [1, 3, 16, 16]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    shutil.copy(Path(__file__).parents[1] / "debugging/planted.py", tmp_path)
    (tmp_path / "recipes").mkdir()


def write(factory: str = "overflow", name: str = "planted", **sections: Any) -> None:
    recipe = {
        "schema": 1,
        "defaults": [{"precision": "auto"}, {"target": "ios16"}, {"checks": "default"}, {"tracking": "none"}],
        "source": {"kind": "python", "factory": f"planted:{factory}", "seed": 2},
        "input": {"x": {"kind": "tensor", "shape": IMAGE}},
        **sections,
    }
    Path(f"recipes/{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def built(name: str = "planted", variant: str = "default") -> dict[str, Any]:
    return read_build_json(Path("outputs") / name / variant)


@pytest.mark.parametrize(
    ("factory", "layers"),
    [
        pytest.param("overflow", ["2", "3", "4"], marks=pytest.mark.slow),
        ("overflow_first", ["0", "1", "2"]),
    ],
)
def test_only_the_operators_of_an_overflow_stay_in_float32(factory: str, layers: list[str]) -> None:
    write(factory)
    assert main(["recipe=planted", "precision=fp16", "-q"]) == 5  # plain float16 misses the limit
    assert main(["recipe=planted", "-q"]) == 0
    record = built()
    chosen = record["chosen"]
    # coremltools keeps a layer whose constants overflow in float32 whatever is chosen
    assert set(layers[-2:]) <= {kept["module"] for kept in chosen["kept"]} <= set(layers)
    assert chosen["precision"]["kind"] == "mixed"
    assert len(chosen["precision"]["fp32_names"]) == len(chosen["kept"])
    assert "beyond 65504" in chosen["kept"][0]["reason"]
    assert [tried["passed"] for tried in chosen["tried"][:3]] == [False, True, True]
    (parity,) = (check for check in record["checks"] if check["name"] == "parity")
    assert parity["values"]["output"]["snr_db"] > 55


def test_of_a_core_ai_program_the_operators_of_the_exported_program_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("coreai", reason="needs the extra coreai")
    # given layers whose values half does not hold
    checks = {"parity": {"snr_db": {"min": 30}, "samples": 2, "stress": False, "search": 0}}
    write("overflow_first", format="aimodel", target={"name": "ios27"}, checks=checks)

    # when
    assert main(["recipe=planted"]) == 0

    # then what overflows and its reader stay in float32, by the names that torch.export gave them
    chosen = built()["chosen"]
    assert [kept["name"] for kept in chosen["kept"]] == chosen["precision"]["fp32_names"]
    assert [(kept["name"].rstrip("_0123456789"), kept["module"]) for kept in chosen["kept"]] == [
        ("convolution", "0"),
        ("relu", "1"),
        ("convolution", "2"),
    ]
    assert [kept["operator"] for kept in chosen["kept"]] == ["conv2d", "relu", "conv2d"]
    assert "beyond 65504" in chosen["kept"][0]["reason"]
    assert [tried["passed"] for tried in chosen["tried"][:3]] == [False, True, True]
    # and the recipe that is written next to it gives the same artifact
    monkeypatch.setenv("BUILDER_RECIPES", "outputs/planted/default")
    assert main(["recipe=planted_chosen", "-q"]) == 0
    assert built("planted_chosen")["artifact"]["digest"] == built()["artifact"]["digest"]
    # and a name that no operator has is refused with one that is near
    write(
        "overflow_first",
        "wrong",
        format="aimodel",
        defaults=[{"target": "ios27"}, {"checks": "none"}],
        precision={"kind": "mixed", "fp32_names": ["convolutoin"]},
    )
    assert main(["recipe=wrong", "tracking=none"]) == 2
    assert "did you mean `convolution" in capsys.readouterr().err


CONCERNED = {
    "digits_overflow": ({"features.1.conv.2", "features.2.conv.0.1"}, 2),
    "resnet18_overflow": ({"layer2.0.relu", "layer2.0.bn2"}, 2),
    "vit_overflow": ({"encoder.layers.encoder_layer_1.self_attention"}, 10),
}
"""By model, the modules that make or read the planted values, and the number of their operators: the convolution (its
batch norm is folded into it) and its reader; the ReLU behind a convolution that coremltools itself keeps in float32,
and its reader; of the attention what computes the values, what moves them, and the product that they go into."""


@pytest.mark.slow
@pytest.mark.parametrize("factory", CONCERNED)
def test_no_more_than_the_operators_concerned_stay_in_float32_in_real_models(factory: str) -> None:
    write(
        factory,
        input={"x": {"kind": "tensor", "shape": [1, 3, 32, 32]}},
        checks={"parity": {"snr_db": {"min": 45}, "samples": 2}},
    )
    assert main(["recipe=planted", "-q"]) == 0
    record = built()
    modules, count = CONCERNED[factory]
    kept = record["chosen"]["kept"]
    assert {each["module"] for each in kept} == modules
    assert len(kept) == count < 0.1 * sum(record["op_counts"].values())
    assert all("beyond 65504" in each["reason"] for each in kept)
    tried = record["chosen"]["tried"]
    assert not tried[0]["passed"]  # plain float16 misses the limit
    assert len(tried) <= 8
    parity = next(check for check in record["checks"] if check["name"] == "parity")
    assert parity["values"]["output"]["snr_db"] >= 45


@pytest.mark.slow
def test_the_recipe_beside_the_artifact_gives_the_same_artifact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    assert main(["recipe=planted", "target=ios17"]) == 0
    (beside,) = Path("outputs/planted/target=ios17").glob("*.yaml")
    chosen = built(variant="target=ios17")
    assert "precision mixed: 3 operators in float32" in capsys.readouterr().err
    assert "Chosen by measuring" in Path("outputs/planted/target=ios17/report.html").read_text()
    # when it is built from where it lies
    monkeypatch.setenv("BUILDER_RECIPES", str(beside.parent))
    assert main([f"recipe={beside.stem}", "-q"]) == 0
    again = built(beside.stem)
    assert again["artifact"]["digest"] == chosen["artifact"]["digest"]
    assert again["chosen"] is None
    assert again["config"]["precision"] == chosen["chosen"]["precision"]


@pytest.mark.slow
def test_the_verb_writes_it_without_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert main(["choose", "recipe=planted", "-q"]) == 0
    assert capsys.readouterr().out == "recipes/planted_chosen.yaml\n"
    assert not Path("outputs").exists()
    assert compose(["recipe=planted_chosen"]).spec.precision.kind == "mixed"
    # the build finds the choice in the store, and is up to date the next time
    assert main(["recipe=planted"]) == 0
    assert "choose        cached" in capsys.readouterr().err
    assert main(["recipe=planted"]) == 0
    assert "up to date" in capsys.readouterr().err
    assert main(["plan", "recipe=planted"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:3]] == [
        ["load", "hit"], ["prepare", "hit"], ["choose", "hit"],
    ]  # fmt: skip
    # a file of somebody else's is not replaced
    Path("recipes/mine.yaml").write_text("schema: 1\n")
    assert main(["choose", "recipe=planted", "--output", "recipes/mine.yaml"]) == 2
    assert main(["choose", "recipe=planted", "precision=fp32"]) == 2
    assert "leaves nothing open" in capsys.readouterr().err


def test_half_is_taken_where_it_passes_and_float32_where_nothing_does() -> None:
    write("sound")
    assert main(["recipe=planted", "-q"]) == 0
    assert built()["chosen"]["precision"] == {"kind": "fp16"}
    # the limit decides, so it is in the key and in the name of the variant
    assert main(["recipe=planted", "checks.parity.snr_db.min=400", "-q"]) == 5
    (broken,) = Path("outputs/broken/planted").iterdir()
    chosen = json.loads((broken / "build.json").read_text())["chosen"]
    assert broken.name == "checks.parity.snr_db.min=400"
    assert chosen["precision"] == {"kind": "fp32"}
    assert "does not pass" in chosen["notes"][0]


def test_a_limit_between_takes_a_part_of_the_operators() -> None:
    write("sound")
    assert main(["recipe=planted", "precision=fp16", "-q"]) == 0
    snr = next(c for c in built(variant="precision=fp16")["checks"] if c["name"] == "parity")["values"]["output"]
    limit = snr["snr_db"] + 3
    assert main(["recipe=planted", f"checks.parity.snr_db.min={limit:.2f}", "-q"]) == 0
    (variant,) = (path.name for path in Path("outputs/planted").iterdir() if path.name.startswith("checks"))
    record = built(variant=variant)
    assert 0 < len(record["chosen"]["kept"]) < sum(record["op_counts"].values())


def test_what_auto_cannot_decide_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write(name="open")
    assert main(["recipe=open", "checks=none"]) == 2
    assert "no check executes the artifact" in capsys.readouterr().err
    write(name="old")
    assert main(["recipe=old", "target=ios14", "format=mlmodel"]) == 2
    assert "is for ML programs" in capsys.readouterr().err


@given(st.text("abc_.:/19é", min_size=1, max_size=6))
def test_names_are_those_that_coremltools_gives(name: str) -> None:
    from coremltools.converters.mil.mil.passes.defs.preprocess import NameSanitizer

    assert artifact_name(name) == NameSanitizer(prefix="var_").sanitize_name(name)
