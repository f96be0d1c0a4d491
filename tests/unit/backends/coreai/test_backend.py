"""Core AI as a backend: what it refuses by name, what it needs, and a build through all stages."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.__main__ import main
from builder.backends import backend_of
from builder.backends.coreai import installed
from builder.config.compose import compose
from builder.errors import UnfitEnvironmentError
from builder.model.capture.methods import methods_to_try
from builder.release.lock import locked_tools
from builder.spec.rules.compatibility import find_incompatibilities
from builder.spec.source_kinds import kind_of
from tests.unit.stages.small_builds import IMAGE, TENSOR, make_spec

EXPORT = {"capture": {"method": "auto"}, "format": "aimodel", "target": {"name": "ios27"}}
REFUSED = {
    "input.x.default_value": {"input": {"x": {**TENSOR, "default_value": 0}}},
    "compression.qat": {"compression": {"qat": {"kind": "quantization_aware_training", "training": "a:b"}}},
    "detection.output": {"detection": {"kind": "yolo", "labels": ["a"]}},
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_core_ai_cannot_express_is_refused_by_name_with_what_to_do(path: str) -> None:
    spec = make_spec(**{"input": {"image": IMAGE}, **EXPORT, **REFUSED[path]})
    found = {".".join(problem.path): problem for problem in find_incompatibilities(spec)}
    assert path in found, found
    assert found[path].hint


def test_the_same_without_those_is_accepted_and_captured_by_export() -> None:
    spec = make_spec(**{"input": {"image": IMAGE}, **EXPORT})
    assert find_incompatibilities(spec) == []
    assert methods_to_try(spec) == ("export", "trace", "script")


NOISE = {"data": {"kind": "noise"}}
PARITY = {"parity": {"kind": "parity", "snr_db": {"min": 30}}}


@pytest.mark.parametrize("precision", [{"kind": "auto"}, {"kind": "mixed", "fp32_names": ["softmax_1"]}])
def test_operators_that_stay_in_float32_may_be_named_or_found(precision: dict[str, Any]) -> None:
    spec = make_spec(**{"input": {"image": IMAGE}, **EXPORT, "precision": precision, "checks": PARITY})
    assert find_incompatibilities(spec) == []


@pytest.mark.parametrize(
    "step", [{"kind": "quantize_activations", **NOISE}, {"kind": "gptq", **NOISE}, {"kind": "auto"}]
)
def test_steps_on_values_and_modules_and_auto_are_accepted(step: dict[str, Any]) -> None:
    spec = make_spec(**{"input": {"image": IMAGE}, **EXPORT, "compression": {"step": step}, "checks": PARITY})
    assert find_incompatibilities(spec) == []


@pytest.mark.parametrize(
    ("system", "machine", "libc", "reason"),
    [
        ("linux", "aarch64", "glibc", "no wheel for Linux aarch64"),
        ("linux", "x86_64", "", "no wheel for musl"),
        ("win32", "AMD64", "", "no wheel for this system"),
        ("darwin", "x86_64", "", "Macs with Intel processors"),
    ],
)
def test_a_machine_without_a_wheel_is_told(
    system: str, machine: str, libc: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    with pytest.raises(UnfitEnvironmentError, match=reason):
        installed.check_installed()


def test_a_missing_or_other_version_is_exit_7_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "installed_version", lambda name: "0.9")
    with pytest.raises(UnfitEnvironmentError, match=r"coreai-core 1\.0\.0b3.*0\.9 is installed") as raised:
        backend_of("aimodel").check_installed()
    assert raised.value.exit_code == 7
    assert "pip install 'coreml-builder[coreai]'" in (raised.value.hint or "")


RECIPE = """
schema: 1
defaults:
  - source: python
  - precision: fp16
  - compression: none
  - target: ios15
  - checks: default
  - tracking: none
source:
  factory: {factory}
input:
  image: {{kind: image, shape: [1, 3, 8, 8], color_layout: BGR, mean: 0.5, std: 0.5}}
classifier:
  labels: [a, b, c]
  softmax: true
compression:
  six: {{kind: palettize, nbits: 6, weight_threshold: 50}}
format: aimodel
metadata: {{author: A, version: "2", user: {{k: v}}}}
"""

MODEL = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 3)
    ).eval()
"""


def test_a_build_through_all_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    # given a recipe for an older system
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "tiny_net.py").write_text(MODEL)
    (tmp_path / "recipes" / "tiny.yaml").write_text(RECIPE.format(factory="tiny_net:make"))
    # when
    code = main(["recipe=tiny", "-q"])
    # then it is built for the first system with Core AI, and two engines executed it
    out, err = capsys.readouterr()
    assert code == 0, err
    artifact = Path(out.splitlines()[-1])
    record = json.loads((artifact.parent / "build.json").read_text())
    assert record["target"] == {"name": "ios27", "coremltools": None}
    assert {c["engine"] for c in record["checks"] if c["kind"] == "parity"} == {"runtime", "coreai/cpu-interpreter"}
    assert all(check["passed"] for check in record["checks"])
    # and the artifact says what an app must know
    own = json.loads((artifact / "metadata.json").read_text())["creatorDefinedMetadata"]
    assert own == {
        "inputs": {"image": {"color_layout": "BGR"}},
        "labels": ["a", "b", "c"],
        "user": {"k": "v"},
        "version": "2",
    }
    described = backend_of("aimodel").describe(artifact)
    assert described.inputs[0] == {
        "name": "image", "kind": "tensor", "shape": [1, 3, 8, 8], "dtype": "uint8", "color_layout": "BGR",
    }  # fmt: skip
    assert described.outputs == ({"name": "probabilities", "kind": "tensor", "shape": [1, 3], "dtype": "float32"},)
    assert {weight.name for weight in described.weights} >= {"0.weight", "4.weight"}
    assert "experimental" in (artifact.parent / "report.html").read_text()
    # and what made it, in the record as in the lock
    assert record["versions"].items() >= installed.PINS.items()
    kind = kind_of(compose(["recipe=tiny"]).spec.source)
    assert locked_tools(kind, "aimodel").items() >= installed.PINS.items()
    assert installed.PINS.keys().isdisjoint(locked_tools(kind, "mlpackage"))
    # and `init` drafts a recipe for it, which builds the same program once the model is named
    assert main(["init", str(artifact)]) == 0
    draft = Path(capsys.readouterr().out.strip())
    text = (
        draft.read_text()
        .replace("# factory: ", "factory: tiny_net:make")
        .replace("scale: 1", "mean: 0.5\n    std: 0.5")
    )
    draft.write_text(text)
    drafted, original = compose([f"recipe={draft.stem}"]).spec, compose(["recipe=tiny", "~compression.six"]).spec
    for part in ("input", "precision", "format"):
        assert getattr(drafted, part) == getattr(original, part), part
    assert drafted.classifier is not None
    assert drafted.classifier.labels == ["a", "b", "c"]
    # and `debug` ranks its operators, names their modules, and says what to leave out
    assert main(["debug", "recipe=tiny", "compression.six.nbits=1"]) == 0
    said = capsys.readouterr().out
    assert "conv2d conv2d of module 0" in said
    assert 'except_names: ["0.weight"]' in said
    assert "have no counterpart" not in said


@pytest.mark.parametrize(
    "recipe",
    [
        "source_torchscript",
        pytest.param("source_onnx", marks=pytest.mark.slow),
        pytest.param("source_coreml", marks=pytest.mark.slow),
        pytest.param("capture_onnx", marks=pytest.mark.slow),
    ],
)
def test_sources_that_torch_export_cannot_read_go_by_way_of_core_ml(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"recipe={recipe}", "format=aimodel", "target=ios27", "tracking=none", "-q"]) == 0
    # its checks compared it with the source itself, by both engines
    artifact = Path(capsys.readouterr().out.splitlines()[-1])
    record = json.loads((artifact.parent / "build.json").read_text())
    assert {c["engine"] for c in record["checks"] if c["kind"] == "parity"} == {"runtime", "coreai/cpu-interpreter"}
