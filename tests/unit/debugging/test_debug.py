"""The debug view names what was planted as the worst, and what it says to change takes the error away."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.__main__ import main
from builder.analysis.numerics.findings import Findings, decibels
from builder.config.compose import compose
from builder.engine.debug import debug
from builder.progress import Silent

IMAGE = [1, 3, 16, 16]
UNIFORM = {"kind": "palettize", "mode": "uniform"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    shutil.copy(Path(__file__).with_name("planted.py"), tmp_path)
    (tmp_path / "recipes").mkdir()


def write(factory: str, shape: list[int] = IMAGE, **sections: Any) -> None:
    recipe = {
        "schema": 1,
        "defaults": [{"precision": "fp16"}, {"target": "ios16"}, {"checks": "none"}, {"tracking": "none"}],
        "source": {"kind": "python", "factory": f"planted:{factory}", "seed": 1},
        "input": {"x": {"kind": "tensor", "shape": shape}},
        **sections,
    }
    Path("recipes/planted.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def look(number: int = 0) -> Findings:
    folder = Path(f"work{number}")
    folder.mkdir()
    return debug(compose(["recipe=planted"]), folder=folder, progress=Silent())


RANGES = [
    pytest.param("overflow", "2", "overflow", marks=pytest.mark.slow),
    pytest.param("overflow_first", "0", "overflow", marks=pytest.mark.slow),
    ("denormal", "2", "denormal"),
    pytest.param("denormal_first", "0", "denormal", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("factory", "module", "share"), RANGES)
def test_a_layer_whose_values_half_precision_cannot_hold(factory: str, module: str, share: str) -> None:
    write(factory)
    found = look()
    worst = found.worst
    assert worst is not None
    assert worst.range is not None
    assert (worst.kind, worst.modules) == ("operator", (module,))
    assert getattr(worst.range, share) > 0.3
    assert worst.name in {suspect.name for suspect in found.unfit}
    # what it says to change takes the error away
    assert worst.remedy is not None
    write(factory, **yaml.safe_load(worst.remedy))
    with_remedies = look(1)
    assert decibels(with_remedies.noise) > max(decibels(found.noise) + 10, 55)


def test_squares_that_overflow_are_named_where_they_begin() -> None:
    write("square", [1, 16])
    worst = look().worst
    assert worst is not None
    assert worst.range is not None
    assert worst.operator in ("mul", "pow", "square")
    assert worst.range.overflow > 0


@pytest.mark.parametrize(("module", "nbits"), [("2", 1), pytest.param("4", 2, marks=pytest.mark.slow)])
def test_a_palette_that_is_too_coarse_for_one_layer(module: str, nbits: int) -> None:
    weight = f"model_{module}_weight*"
    fine = {**UNIFORM, "nbits": 8, "except_names": [weight]}
    write("sound", compression={"fine": fine, "coarse": {**UNIFORM, "nbits": nbits, "names": [weight]}})
    worst = look().worst
    assert worst is not None
    assert worst.modules == (module,)
    assert worst.remedy is not None
    assert "coarse:" in worst.remedy
    assert "fine:" not in worst.remedy
    assert f"nbits: {nbits + 1} " in worst.remedy


@pytest.mark.parametrize(
    ("replacement", "module"), [("shift", "2"), pytest.param("halve", "4", marks=pytest.mark.slow)]
)
def test_a_wrong_substitution(replacement: str, module: str) -> None:
    wrong = {"kind": "replace", "modules": [module], "replacement": f"planted:{replacement}"}
    write("sound", substitutions={"mine": wrong})
    worst = look().worst
    assert worst is not None
    assert (worst.kind, worst.name, worst.modules) == ("substitution", "mine", (module,))


@pytest.mark.slow
def test_an_attention_whose_values_overflow_in_the_middle_of_a_transformer(capsys: pytest.CaptureFixture[str]) -> None:
    # the tenth of the planted cases, as somebody would look at it
    write("vit_overflow", [1, 3, 32, 32])
    assert main(["debug", "recipe=planted", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.startswith("1. "))
    assert first.startswith("1. linear ")
    assert first.endswith("of module encoder.layers.encoder_layer_1.self_attention")
    assert '"encoder.layers.encoder_layer_1.self_attention"' in lines[lines.index(first) + 5]


def test_a_sound_model_has_nothing_bad(capsys: pytest.CaptureFixture[str]) -> None:
    write("sound")
    assert main(["debug", "recipe=planted", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "half precision cannot hold" not in "\n".join(lines)
    assert not Path("outputs").exists()


def test_a_neural_network_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write("sound", target={"name": "ios14"}, format="mlmodel")
    assert main(["debug", "recipe=planted", "-q"]) == 2
    assert "operator by operator" in capsys.readouterr().err
