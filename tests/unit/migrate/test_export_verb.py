"""`export` writes a file with its proof, and says of every wrong input what is wrong."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from PIL import Image

import coreml_runtime as runtime
from builder.__main__ import main
from builder.backends.coreai.installed import is_installed
from builder.migrate import targets
from tests.runtime.programs import save_program

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image classifier in half precision, with normalisation, labels and an author."""

    def build(image: Any) -> Any:
        x = mb.relu(x=mb.conv(x=mb.mul(x=image, y=np.float32(1 / 255)), weight=WEIGHT, name="first"), name="act")
        return mb.softmax(x=mb.reduce_mean(x=x, axes=[2, 3], name="mean"), axis=1, name="probabilities")

    path = save_program(
        tmp_path_factory.mktemp("classifier"), build, {"image": ((1, 3, 8, 8), "fp32")}, precision="fp16",
        inputs=[ct.ImageType("image", (1, 3, 8, 8))], classifier_config=ct.ClassifierConfig(["a", "b", "c", "d"]),
    )  # fmt: skip
    model = ct.models.MLModel(str(path), skip_model_load=True)
    model.author = "somebody"
    named = path.with_name("named.mlpackage")
    model.save(str(named))
    return named


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def test_pt2_has_labels_and_its_proof(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given, when
    monkeypatch.chdir(tmp_path)
    code = export(classifier, "--to", "pt2")

    # then
    out, err = capsys.readouterr()
    assert (code, out) == (0, "named.pt2\n")
    assert "passed in torch" in err
    extra = {"builder.json": ""}
    program = torch.export.load("named.pt2", extra_files=extra)
    known = json.loads(extra["builder.json"])
    assert known["labels"] == ["a", "b", "c", "d"]
    assert known["metadata"]["author"] == "somebody"
    assert known["inputs"]["image"]["color"] == "RGB"
    (found,) = program.module()(torch.full((1, 3, 8, 8), 128.0)).values()
    assert found.sum().item() == pytest.approx(1, abs=1e-3)
    proof = json.loads(Path("named.pt2.proof.json").read_text())
    assert [check["verdict"] for check in proof["checks"]] == ["passed"]
    assert proof["checks"][0]["samples"] == 8
    assert proof["stress_inputs"]["compared"] > 3


@pytest.mark.skipif(not is_installed(), reason="Core AI is not installed")
def test_aimodel_computes_in_half_with_labels_and_bytes_as_levels(classifier: Path, tmp_path: Path) -> None:
    # given, when
    file = tmp_path / "m.aimodel"
    assert export(classifier, "--to", "aimodel", "-o", file) == 0

    # then
    model = runtime.load(file)
    assert repr(model.inputs["image"]) == "<uint8 array (1, 3, 8, 8)>"
    metadata = json.loads((file / "metadata.json").read_text())
    assert metadata["creatorDefinedMetadata"]["labels"] == ["a", "b", "c", "d"]
    assert metadata["author"] == "somebody"
    proof = json.loads((tmp_path / "m.aimodel.proof.json").read_text())
    assert [check["engine"] for check in proof["checks"]] == ["runtime", "coreai/cpu-interpreter"]


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="onnxscript is not installed")
def test_onnx_is_what_onnxruntime_takes_with_the_file_names(classifier: Path, tmp_path: Path) -> None:
    # given, when
    file = tmp_path / "m.onnx"
    assert export(classifier, "--to", "onnx", "-o", file) == 0

    # then
    import onnx

    model = onnx.load(str(file))
    assert [value.name for value in model.graph.input] == ["image"]
    assert len(model.graph.output) == 1
    known = {entry.key: entry.value for entry in model.metadata_props}
    assert known["author"] == "somebody"
    assert json.loads(known["builder"])["labels"] == ["a", "b", "c", "d"]
    assert not [node for node in model.graph.node if node.metadata_props]
    proof = json.loads((tmp_path / "m.onnx.proof.json").read_text())
    assert proof["checks"][0]["engine"].startswith("onnxruntime")


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="needs onnxscript")
def test_remainders_of_multiples_are_those_of_the_original(tmp_path: Path) -> None:
    # given quotients that single precision rounds up to a whole number
    import onnxruntime

    def build(x: Any, y: Any) -> Any:
        return mb.mod(x=x, y=y, name="rest"), mb.floor_div(x=x, y=y, name="whole")

    path = save_program(tmp_path, build, {"x": ((6,), "fp32"), "y": ((6,), "fp32")}, precision="fp32")
    given = {
        "x": np.array([0.6, -0.6, 1.0, 7.0, -7.5, 5], np.float32),
        "y": np.array([0.2, 0.2, -0.1, 0.7, -2.5, 0], np.float32),
    }

    # when
    assert export(path, "--to", "onnx", "-o", tmp_path / "m.onnx") == 0

    # then
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    wanted = runtime.load(path).predict(dict(given))
    for name, found in zip(wanted, session.run(list(wanted), given), strict=True):
        np.testing.assert_array_equal(found, wanted[name])


def test_where_the_ends_differ_nothing_is_written(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a format that loses a weight
    def lossy(exported: Any, destination: Path) -> tuple[()]:
        for value in exported.program.state_dict.values():
            value.data.mul_(0.9)
        torch.export.save(exported.program, destination)
        return ()

    monkeypatch.setattr("builder.migrate.pt2.write", lossy)

    # when
    code = export(classifier, "--to", "pt2", "-o", tmp_path / "m.pt2")

    # then
    out, err = capsys.readouterr()
    assert (code, out) == (5, "")
    assert "does not compute what the original computes" in err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given
    path = save_program(
        tmp_path, lambda x: mb.random_categorical(x=x, mode="probs", size=3, seed=2, name="chosen"),
        {"x": ((3,), "fp32")},
    )  # fmt: skip

    # when, then
    assert export(path, "--to", "pt2", "-o", tmp_path / "m.pt2") == 4
    err = capsys.readouterr().err
    assert "error[B0417]" in err
    assert "random_categorical 'chosen'" in err


def test_draws_travel_to_torch_alone_and_sizes_by_values_are_proven(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given noise of as many values as an input says
    path = save_program(
        tmp_path, lambda x, n: (mb.tile(x=x, reps=n), mb.random_uniform(shape=n, low=0.0, high=1.0, name="noise")),
        {"x": ((2, 3), "fp32"), "n": ((2,), "int32")},
    )  # fmt: skip

    # when
    codes = [export(path, "--to", to, "-o", tmp_path / f"m.{to}") for to in ("pt2", "onnx")]

    # then
    assert codes == [0, 4]
    err = capsys.readouterr().err
    assert "warning: noise: random numbers, drawn anew in every call from torch's generator" in err
    assert "error[B0418]" in err
    assert "the model draws random numbers (noise); onnx would draw others" in err
    (check,) = json.loads((tmp_path / "m.pt2.proof.json").read_text())["checks"]
    assert (check["verdict"], check["samples"]) == ("passed", 8)


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="onnxscript is not installed")
@pytest.mark.skipif(not is_installed(), reason="Core AI is not installed")
def test_loops_and_sizes_that_an_input_gives_travel_to_every_format(tmp_path: Path) -> None:
    # given
    def build(x: Any, n: Any) -> Any:
        turns = mb.squeeze(x=n)
        grown = mb.while_loop(
            _cond=lambda i, _: mb.less(x=i, y=turns), _body=lambda i, a: (mb.add(x=i, y=np.int32(1)), mb.add(x=a, y=x)),
            loop_vars=(np.int32(0), x),
        )[1]  # fmt: skip
        return grown, mb.tile(x=x, reps=mb.concat(values=(n, np.array([1], np.int32)), axis=0))

    path = save_program(tmp_path, build, {"x": ((2, 3), "fp32"), "n": ((1,), "int32")})

    # when, then
    for to in ("pt2", "onnx", "aimodel"):
        assert export(path, "--to", to, "-o", tmp_path / f"m.{to}") == 0
        checks = json.loads((tmp_path / f"m.{to}.proof.json").read_text())["checks"]
        assert {check["verdict"] for check in checks} == {"passed"}


def test_where_no_sample_fits_nothing_is_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given seven elements that two small sizes never hold
    path = save_program(
        tmp_path, lambda x, n: mb.reshape(x=x, shape=n), {"x": ((7,), "fp32"), "n": ((2,), "int32")}
    )  # fmt: skip

    # when, then
    assert export(path, "--to", "pt2", "-o", tmp_path / "m.pt2") == 4
    assert "error[B0419]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.mlpackage", "--to", "pt2"), "there is no model missing.mlpackage"),
        (("{model}",), "--to is missing"),
        (("{model}", "--to", "pt3"), "--to pt3 is not a format"),
        (("{model}", "--to", "pt2", "-o", "m.onnx"), "does not end with .pt2"),
        (("{model}", "--to", "pt2", "-o", "there.pt2"), "there.pt2 is there already"),
        (("{model}", "--to", "pt2", "-o", "no/m.pt2"), "there is no folder no"),
        (("there.pt2", "--to", "pt2"), "there.pt2 is not a Core ML model"),
        (("{model}", "--to", "pt2", "--function", "other"), "no function 'other'"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: tuple[str, ...], message: str, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # given
    monkeypatch.chdir(tmp_path)
    Path("there.pt2").touch()

    # when
    code = export(*(each.format(model=classifier) for each in arguments))

    # then
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in err


def test_a_damaged_file_and_a_missing_package_have_their_exit_codes(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    damaged = tmp_path / "m.mlmodel"
    damaged.write_bytes(b"\xff" * 100)

    def missing() -> None:
        from builder.errors import UnfitEnvironmentError

        raise UnfitEnvironmentError("something is not installed", code="B0704", hint="pip install it")

    monkeypatch.setattr("builder.backends.coreai.installed.check_installed", missing)

    # when, then
    assert export(damaged, "--to", "pt2", "-o", tmp_path / "m.pt2") == 3
    assert export(classifier, "--to", "aimodel", "-o", tmp_path / "m.aimodel") == 7
    assert "pip install it" in capsys.readouterr().err


def test_every_target_names_functions_that_exist() -> None:
    from builder.util.lazy import resolve

    for target in targets.TARGETS:
        for path in (target.write, target.open, target.check):
            assert path is None or callable(resolve(path))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_functions_that_are_left_behind_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a file with two functions
    plain = save_program(tmp_path, lambda x: mb.relu(x=x, name="y"), {"x": ((2, 3), "fp32")}, opset="ios18")
    both = ct.utils.MultiFunctionDescriptor()
    for name in ("short", "long"):
        both.add_function(str(plain), "main", name)
    both.default_function_name = "short"
    ct.utils.save_multifunction(both, str(tmp_path / "both.mlpackage"))
    # when nobody says which, and when somebody does
    said = []
    for given in ((), ("--function", "long")):
        assert export(tmp_path / "both.mlpackage", "--to", "pt2", "-o", tmp_path / f"{len(given)}.pt2", *given) == 0
        said.append("this is the function short; the file also has long" in capsys.readouterr().err)
    # then
    assert said == [True, False]


def test_a_half_precision_program_that_was_exported_builds_again(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.chdir(tmp_path)
    assert export(classifier, "--to", "pt2", "-o", "small.pt2") == 0

    # when: the draft says that pictures are levels
    assert main(["init", "small.pt2"]) == 0
    recipe = Path("recipes/small.yaml").read_text()
    code = main(["recipe=small", "tracking=none"])

    # then
    assert "kind: image" in recipe
    assert "color_layout: RGB" in recipe
    assert code == 0, capsys.readouterr().err
    made = runtime.load("outputs/small/default/small.mlpackage")
    picture = Image.fromarray(np.full((8, 8, 3), 128, np.uint8))
    expected = runtime.load(classifier).predict({"image": picture})["classLabel_probs"]
    (found,) = made.predict({"image": picture}).values()
    assert np.abs(np.ravel(found) - list(expected.values())).max() < 2**-8


@pytest.mark.parametrize("verb", ["lint", "predict"])
def test_what_takes_artifacts_says_so_of_a_program(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.chdir(tmp_path)
    Path("m.pt2").touch()

    # when, then
    assert main([verb, "m.pt2"]) == 2
    err = capsys.readouterr().err
    assert "m.pt2 is not an artifact" in err
    assert "`python -m builder init m.pt2` drafts the recipe of one" in err
