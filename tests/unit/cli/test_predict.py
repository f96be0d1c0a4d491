"""The predict verb: files become inputs as the model declares them, outputs become lines and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from builder.cli.arguments import model_file
from builder.errors import ConfigurationError
from coreml_runtime import ModelError
from coreml_runtime.features import ArrayFeature, ImageFeature
from tests.unit.cli.conftest import Run


class Half:
    """A model of one picture and one array."""

    inputs: Mapping[str, Any] = {
        "image": ImageFeature(name="image", color="RGB", width=8, height=4),
        "factor": ArrayFeature(name="factor", dtype="fp32", shape=(2,)),
    }
    states: Mapping[str, Any] = {}
    specification = None
    function = "main"

    def predict(self, inputs: Mapping[str, Any], *, state: object = None) -> dict[str, Any]:
        picture, factor = np.asarray(inputs["image"], dtype=np.float32), inputs["factor"]
        shares = {"dark": 0.25, "light": 0.75}
        return {
            "label": "light",
            "shares": shares,
            "mean": picture.mean(axis=(0, 1)) * factor[0],
            "shape": picture.shape,
            "../odd": np.zeros(0),
        }


@pytest.fixture
def model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model file, with a picture and an array beside it."""
    (tmp_path / "half.mlmodel").write_bytes(b"")
    Image.new("RGB", (16, 16), (10, 20, 30)).save(tmp_path / "cat.png")
    np.save(tmp_path / "two.npy", np.array([2.0, 3.0], dtype=np.float32))
    monkeypatch.setattr("coreml_runtime.model.load", lambda path, function: Half())
    return "half.mlmodel"


def test_pictures_are_resized_and_outputs_printed(run: Run, model: str, tmp_path: Path) -> None:
    # when the model runs on a picture of another size and an array
    code, out, err = run("predict", model, "image=cat.png", "factor=two.npy", "--output", "out")

    # then the best class comes first, arrays are shown, and both are written
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == ["label: light", "shares:", "  light  0.7500", "  dark   0.2500"]
    assert "mean: [20.0, 40.0, 60.0]" in out
    assert "shape: (4, 8, 3)" in out
    assert "../odd: []" in out
    assert np.load(tmp_path / "out" / ".._odd.npy").size == 0
    assert np.load(tmp_path / "out" / "mean.npy").tolist() == [20.0, 40.0, 60.0]
    assert json.loads((tmp_path / "out" / "shares.json").read_text()) == {"dark": 0.25, "light": 0.75}


def test_a_number_fills_an_array(run: Run, model: str) -> None:
    assert "mean: [5.0, 10.0, 15.0]" in run("predict", model, "image=cat.png", "factor=0.5")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imge=cat.png", "factor=1"), "did you mean `image`?"),
        (("image=cat.png",), "add factor=FILE"),
        (("image=half.mlmodel", "factor=1"), "cannot be read as a picture"),
        (("image=none.png", "factor=1"), "cannot be read as a picture"),
        (("image=cat.png", "factor=cat.png"), "neither a readable .npy file nor a number"),
        (("image=cat.png", "image=cat.png"), "given twice"),
        (("cat.png",), "is not `name=FILE`"),
    ],
)
def test_wrong_inputs_are_explained(arguments: tuple[str, ...], message: str, run: Run, model: str) -> None:
    code, out, err = run("predict", model, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_damaged_model_exits_3(run: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, function: str | None) -> Half:
        raise ModelError("it is damaged")

    monkeypatch.setattr("coreml_runtime.model.load", fail)
    code, out, err = run("predict", model, "image=cat.png")
    assert (code, out, err) == (3, "", "error[B0302]: half.mlmodel cannot be loaded: it is damaged\n")


def test_a_model_that_is_not_there_is_sought_among_what_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outputs" / "cat" / "default" / "cat.mlpackage").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for wrong in ("outputs/cat/defualt/cat.mlpackage", "cat.mlpackage", "cat"):
        with pytest.raises(ConfigurationError) as caught:
            model_file(wrong)
        assert caught.value.hint == "did you mean `outputs/cat/default/cat.mlpackage`?"
    with pytest.raises(ConfigurationError, match="there is no model dog") as caught:
        model_file("dog")
    assert caught.value.hint == "give the path of a .mlpackage, .mlmodel or .aimodel"
