"""What an asset's maker wrote down of its inputs counts where it is of our own form, and of the array that it is of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.__main__ import main
from builder.backends.coreai.description import describe_artifact

SAMPLE = Path(__file__).parents[3] / "runtime/coreai/data/sample.aimodel"
PLAIN = {"name": "image", "kind": "tensor", "shape": [1, 3, 8, 8], "dtype": "float16"}


def described(folder: Path, image: object) -> Path:
    place = folder / "sample.aimodel"
    shutil.copytree(SAMPLE, place)
    metadata = json.loads((place / "metadata.json").read_text())
    metadata["creatorDefinedMetadata"] = {"inputs": {"image": image}}
    (place / "metadata.json").write_text(json.dumps(metadata))
    return place


@pytest.mark.parametrize(
    "image",
    [
        5,
        {"name": ["x"], "kind": 5, "dtype": None},
        {"shape": "abc"},
        {"shape": [1, 3, 8]},
        {"shape": [1, 3, 8, -8]},
        {"shape": [1, 3, 8, 1 << 70]},
        {"ranges": [[1, 1], [3, 3], [8, 8], [8]]},
        {"ranges": 5, "color_layout": "RGB"},
        {"enumerated_shapes": [[1, 3, 8, 8], 5]},
        {"color_layout": {"a": 1}},
        {"optional": "\x1b[2J", "default_value": "x"},
    ],
    ids=repr,
)
def test_what_is_of_another_form_says_nothing(
    image: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = described(tmp_path, image)
    assert describe_artifact(path).inputs[0] == PLAIN
    monkeypatch.chdir(tmp_path)
    assert main(["package", "sample.aimodel", "--output", "swift"]) in (0, 2), capsys.readouterr().err


def test_what_the_builder_writes_is_read(tmp_path: Path) -> None:
    known: dict[str, Any] = {"color_layout": "RGB", "shape": [1, 3, 8, 8], "ranges": [[1, 1], [3, 3], [8, 16], [8, 16]]}
    assert describe_artifact(described(tmp_path, known)).inputs[0] == {**PLAIN, **known}
