"""What differs between two artifacts is told in terms of the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.release.difference import differences


def _changed(released: Path, folder: Path, change: Callable[[Any], None]) -> tuple[Path, Path]:
    """The released artifact, and a copy with a changed specification."""
    from coremltools.proto.Model_pb2 import Model

    original = released / "release" / "tiny.mlpackage"
    copy = folder / "tiny.mlpackage"
    shutil.copytree(original, copy)
    file = copy / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = Model.FromString(file.read_bytes())
    change(model)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return original, copy


def _operations(model: Any) -> Any:
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def test_equal_artifacts_do_not_differ(released: Path, tmp_path: Path) -> None:
    # given a copy, when both are compared, then nothing is found
    assert differences(*_changed(released, tmp_path, lambda _: None)) == []


def test_metadata_that_differs_is_named(released: Path, tmp_path: Path) -> None:
    # given other metadata, the user's own and what Xcode shows
    def change(model: Any) -> None:
        model.description.metadata.author = "somebody"
        model.description.metadata.userDefined["when"] = "today"

    # when both are compared, then each piece is named with both values
    assert differences(*_changed(released, tmp_path, change)) == [
        "metadata author: 'tests' and 'somebody'",
        "metadata when: None and 'today'",
    ]


def test_operators_that_differ_are_named(released: Path, tmp_path: Path) -> None:
    # given one operator of another type and one that is renamed
    def change(model: Any) -> None:
        for operation in _operations(model):
            if operation.type == "relu":
                operation.type = "relu6"
        operation = next(operation for operation in _operations(model) if operation.type == "linear")
        operation.outputs[0].name = "renamed"

    # when both are compared, then they are named with their types
    found = differences(*_changed(released, tmp_path, change))
    assert any(line.endswith(": relu and relu6") for line in found)
    assert "operator renamed (linear) is only in the second" in found
    assert any(line.endswith("(linear) is only in the first") for line in found)


def test_an_argument_that_differs_is_named(released: Path, tmp_path: Path) -> None:
    # given another padding of the convolution
    def change(model: Any) -> None:
        operation = next(operation for operation in _operations(model) if operation.type == "conv")
        operation.inputs["strides"].arguments[0].name = "other"

    # when both are compared, then the operator is named with the field
    (line,) = differences(*_changed(released, tmp_path, change))
    assert line.startswith("operator ")
    assert line.endswith("(conv): inputs differs")


def test_what_has_no_name_is_told_by_its_field(released: Path, tmp_path: Path) -> None:
    # given another version of the specification alone
    def change(model: Any) -> None:
        model.specificationVersion += 1

    # when both are compared, then the field and the file are named
    assert differences(*_changed(released, tmp_path, change)) == [
        "specification: specificationVersion differs",
        "file Data/com.apple.CoreML/model.mlmodel differs",
    ]


def test_artifacts_of_core_ai_and_of_two_formats_are_compared_by_what_they_say(tmp_path: Path) -> None:
    # given an asset of Core AI, a copy with another author, and a Core ML package
    root = Path(__file__).parents[3]
    sample, other = root / "tests/runtime/coreai/data/sample.aimodel", tmp_path / "other.aimodel"
    shutil.copytree(sample, other)
    assert differences(sample, other) == []
    metadata = json.loads((other / "metadata.json").read_text())
    (other / "metadata.json").write_text(json.dumps({**metadata, "author": "Somebody"}))

    # when, then the copy differs by its author, and the package by its operators
    assert differences(sample, other) == ["metadata author:  -> Somebody"]
    lines = differences(sample, root / "recipes/files/digits.mlpackage")
    assert any(line.startswith("operators conv") for line in lines), lines
