"""Builds from every kind of source by the command line: methods of capture, what files stay as they are, exit codes."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from coremltools.models.utils import load_spec

import coreml_runtime as runtime
from builder.__main__ import main
from builder.model.sources.coreml import path_digest

FILES = Path(__file__).parents[2] / "recipes" / "files"

MODELS = """
import torch

class Branches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        if bool(x[0, 0] > 0):
            return y + 10.0
        return y * 3.0

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, first, second):
        return {"difference": self.linear(first) - second, "sum": first + second}
"""

BRANCHES = """
source: {kind: python, factory: "my_branches:Branches"}
input: {x: {kind: tensor, shape: [1, 4]}}
precision: {kind: fp32}
target: {name: ios16}
checks: {capture: {samples: 8}, parity: {samples: 8}}
"""


def build(text, tmp_path, monkeypatch, capsys, *arguments):
    """The exit code, the artifact and what was said, of a recipe `x` written here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir(exist_ok=True)
    (tmp_path / "my_branches.py").write_text(MODELS)
    (tmp_path / "recipes" / "x.yaml").write_text(f"# A test.\n{text}")
    code = main(["recipe=x", "tracking=none", "-q", *arguments])
    out, err = capsys.readouterr()
    return code, Path(out.splitlines()[-1]) if out else None, err


def record_of(artifact):
    return json.loads((artifact.parent / "build.json").read_text())


def test_auto_finds_the_method_that_keeps_a_branch_and_says_why_others_did_not(tmp_path, monkeypatch, capsys):
    # when
    code, artifact, err = build(BRANCHES, tmp_path, monkeypatch, capsys)
    # then: both ways of the branch are compared, in eight samples
    assert code == 0, err
    record = record_of(artifact)
    assert record["capture"]["method"] == "script"
    assert "froze something" in record["capture"]["failures"]["trace"]
    assert "export failed" in record["capture"]["failures"]["export"]
    assert all(check["passed"] for check in record["checks"])


def test_a_method_that_the_recipe_names_and_that_freezes_misses_the_capture_check(tmp_path, monkeypatch, capsys):
    code, artifact, err = build(BRANCHES, tmp_path, monkeypatch, capsys, "+capture.method=trace")
    assert (code, artifact) == (5, None)
    assert "capture" in err


def test_inputs_and_outputs_by_name_in_any_order(tmp_path, monkeypatch, capsys):
    # given
    text = BRANCHES.replace("Branches}", "Two}").replace(
        "input: {x: {kind: tensor, shape: [1, 4]}}",
        "input: {second: {kind: tensor, shape: [1, 4]}, first: {kind: tensor, shape: [1, 4]}}\n"
        "output: {sum: null, difference: null}",
    )
    text = text.replace('Branches"', 'Two"')
    # when
    code, artifact, err = build(text, tmp_path, monkeypatch, capsys)
    # then
    assert code == 0, err
    zero, one = torch.zeros(1, 4), torch.ones(1, 4)
    model = runtime.load(artifact)
    changed = model.predict({"first": zero, "second": one}), model.predict({"first": zero, "second": zero})
    # the sum and the difference of fp32 numbers near 1: rounding is under 1e-6
    assert abs(changed[0]["sum"] - changed[1]["sum"] - 1).max() < 1e-6
    assert abs(changed[0]["difference"] - changed[1]["difference"] + 1).max() < 1e-6


def test_a_finished_model_is_left_as_it_is_while_its_copy_gets_a_later_target(tmp_path, monkeypatch, capsys):
    # given
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.mlpackage"
    shutil.copytree(FILES / "digits.mlpackage", own)
    before = path_digest(own)
    # when
    code = main(["recipe=source_coreml", "tracking=none", "-q", f"source.file={own}", "target=ios18"])
    # then
    out, err = capsys.readouterr()
    assert code == 0, err
    assert path_digest(own) == before
    assert load_spec(out.strip()).specificationVersion == 9
    assert load_spec(str(own)).specificationVersion == 7


def test_a_finished_model_keeps_its_metadata_where_the_recipe_gives_none(tmp_path, monkeypatch, capsys):
    # given a file that says more about itself than its recipe
    from coremltools.models import MLModel

    monkeypatch.chdir(tmp_path)
    own = MLModel(str(FILES / "digits.mlpackage"), skip_model_load=True)
    own.author, own.version, own.short_description = "Its author", "7", "Its description"
    own.save(str(tmp_path / "own.mlpackage"))
    # when
    overrides = ["metadata.description=Ours", "metadata.license="]
    code = main(["recipe=source_coreml", "tracking=none", "-q", "source.file=own.mlpackage", *overrides])
    # then
    out, err = capsys.readouterr()
    assert code == 0, err
    metadata = load_spec(out.strip()).description.metadata
    assert (metadata.author, metadata.versionString, metadata.shortDescription) == ("Its author", "7", "Ours")
    assert metadata.license == own.license


@pytest.mark.skipif(find_spec("onnxsim") is None, reason="optional packages")
def test_the_same_net_by_every_road_gives_the_same_answers(tmp_path, monkeypatch, capsys):
    # given
    monkeypatch.chdir(tmp_path)
    answers = {}
    # when
    for recipe in ("source_torchscript", "source_exported_program", "source_onnx"):
        assert main([f"recipe={recipe}", "tracking=none", "-q", "precision=fp32"]) == 0
        artifact = Path(capsys.readouterr().out.strip())
        record = record_of(artifact)
        answers[recipe] = {c["name"]: c["values"] for c in record["checks"]}["accuracy"]
    # then
    assert len({json.dumps(values, sort_keys=True) for values in answers.values()}) == 1, answers


SOURCE = "source: {{kind: {kind}, file: {file}}}\ninput: {{image: {image}}}\nprecision: {{kind: fp32}}\n"
IMAGE = "{kind: image, shape: [1, 1, 28, 28], color_layout: G, scale: 1}"


@pytest.mark.parametrize(
    ("kind", "file", "image", "code", "said"),
    [
        ("torchscript", "digits.pt2", IMAGE, 3, "write `kind: exported_program`"),
        ("torchscript", "digits.onnx", IMAGE, 3, "is not a TorchScript archive"),
        ("exported_program", "digits.pt", IMAGE, 3, "write `kind: torchscript`"),
        ("exported_program", "digits.pt2", IMAGE.replace("28, 28", "28, 32"), 3, "(1, 1, 28, 32)"),
        ("onnx", "digits.pt", IMAGE, 3, "no ONNX file"),
        ("onnx", "digits.onnx", IMAGE.replace("28, 28", "28, 32"), 3, "takes image of shape"),
        ("coreml", "digits.onnx", IMAGE, 3, "digits.onnx"),
        ("coreml", "digits.mlpackage", IMAGE.replace("28, 28", "28, 32"), 3, "28 x 28"),
        ("coreml", "digits.mlpackage", IMAGE, 2, "is a classifier"),
        ("onnx", "digit.onnx", IMAGE, 2, "there is no such file"),
        ("onix", "digits.onnx", IMAGE, 2, "onnx"),
    ],
)
def test_wrong_sources_are_told_with_file_and_line(kind, file, image, code, said, tmp_path, monkeypatch, capsys):
    # given
    text = SOURCE.format(kind=kind, file=FILES / file, image=image) + "target: {name: ios18}\n"
    # when
    got, artifact, err = build(text, tmp_path, monkeypatch, capsys)
    # then
    assert (got, artifact) == (code, None), err
    assert said in err
    assert "recipes/x.yaml:" in err
    assert "Traceback" not in err
