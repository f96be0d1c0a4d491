"""Executes the artifact in a written package on its golden inputs, and reads its Swift by the grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from builder.backends import backend_of_file
from builder.store.digests import artifact_digest
from builder.swift.describe import package_of_file
from builder.swift.interface import Package
from coreml_runtime import load
from tests.unit.swift.packages import faults


def package_of(path: Path) -> Package:
    """The package of a file, as the command makes it."""
    return package_of_file(path, artifact_digest(path), backend_of_file(path).describe(path), generation=None)


def require_golden(folder: Path, package: Package) -> int:
    """Execute the artifact in a written package on its golden inputs; returns how many values were compared."""
    for file in folder.rglob("*.swift"):
        assert faults(file.read_text(encoding="utf-8")) == [], file
    golden = folder / "Tests" / f"{package.module}Tests" / "Golden"
    document = json.loads((golden / "golden.json").read_text(encoding="utf-8"))
    artifact = package.artifact("coreml" if "coreml" in package.frameworks else "coreai")
    path = folder / "Sources" / package.module / "Resources" / artifact.file
    compared, state = 0, None
    for prediction in document["predictions"]:
        model = load(path, prediction["function"] or None)
        if prediction["begins"] and model.states:
            state = model.make_state()
        given = {name: _value(each, golden, package, name) for name, each in prediction["inputs"].items()}
        answer = model.predict(given, state=state)
        for name, expected in prediction["outputs"].items():
            _compare(expected, answer[name], golden)
            compared += 1
    return compared


def _value(entry: Mapping[str, Any], golden: Path, package: Package, name: str) -> Any:
    if entry["kind"] == "picture":
        levels = np.frombuffer((golden / entry["file"]).read_bytes(), np.uint8).reshape(entry["shape"])
        if package.frameworks == ("coreai",):
            feature = next(each for each in package.function.inputs if each.name == name)
            return levels.transpose(2, 0, 1)[None][:, :: -1 if feature.layout == "BGR" else 1]
        return Image.fromarray(levels.squeeze(-1) if levels.shape[-1] == 1 else levels)
    if "file" not in entry:
        return {"number": float, "integer": int, "text": str}[entry["kind"]](entry["text"])
    return numbers(entry, golden)


def numbers(entry: Mapping[str, Any], golden: Path) -> Any:
    dtype = "<i4" if entry["kind"] == "integers" else "<f4"
    return np.frombuffer((golden / entry["file"]).read_bytes(), dtype).reshape(entry["shape"])


def _compare(expected: Mapping[str, Any], found: Any, golden: Path) -> None:
    if expected["kind"] in ("text", "integer"):
        assert str(found) == expected["text"]
        return
    if isinstance(found, Mapping):
        found = [found[label] for label in expected["labels"]]
    wanted = numbers(expected, golden)
    np.testing.assert_array_equal(np.asarray(found, wanted.dtype).reshape(-1), wanted.reshape(-1))
