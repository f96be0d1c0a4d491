"""A Swift function that calls one very artifact, with its names, sizes and labels (not compiled by the tests)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from builder.artifacts import BuildRecord

_PIXELS = {"G": "kCVPixelFormatType_OneComponent8", "G16": "kCVPixelFormatType_OneComponent16Half"}
_ARRAYS = {"float32": ".float32", "float16": ".float16", "int32": ".int32", "float64": ".double", "int8": ".int8"}
_KEYWORDS = {"as", "class", "default", "do", "for", "func", "import", "in", "init", "is", "let", "self", "var", "where"}


def swift_snippet(record: BuildRecord) -> str:
    """Core ML's own API (`MLModel`, not Xcode's generated class), so that every name is seen."""
    name = record.artifact.path.stem
    parameters = ", ".join(f"{_identifier(i['name'])}: {_parameter_type(i)}" for i in record.inputs)
    results = ", ".join(f"{_identifier(o['name'])}: {_result_type(o)}" for o in record.outputs)
    returns = f"({results})" if len(record.outputs) != 1 else results.partition(": ")[2]
    images = any(feature["kind"] == "image" for feature in (*record.inputs, *record.outputs))
    lines = [
        *(["import CoreGraphics"] if images else []),
        "import CoreML",
        *(["import CoreVideo"] if images else []),
        "",
        f"// Add {record.artifact.path.name} to the app's target: Xcode compiles it to {name}.mlmodelc.",
        f'let url = Bundle.main.url(forResource: {_text(name)}, withExtension: "mlmodelc")!',
        "let model = try MLModel(contentsOf: url)",
        "",
        f"func predict({parameters}) throws -> {returns} {{",
        "    let inputs = try MLDictionaryFeatureProvider(dictionary: [",
        *(f"        {line}" for given in record.inputs for line in _input(given)),
        "    ])",
        "    let outputs = try model.prediction(from: inputs)",
        *_return(record),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _input(given: Mapping[str, Any]) -> Iterator[str]:
    name, variable = _text(given["name"]), _identifier(given["name"])
    if given["kind"] != "image":
        yield f"{name}: MLFeatureValue(multiArray: {variable}),  // {_array_text(given)}"
        return
    layout = given.get("color_layout", "RGB")
    pixels = _PIXELS.get(layout, "kCVPixelFormatType_32BGRA")
    yield f"// scaled to {given['width']} × {given['height']}; the model itself sees {layout} and normalises"
    yield f"{name}: MLFeatureValue("
    yield f"    cgImage: {variable}, pixelsWide: {given['width']}, pixelsHigh: {given['height']},"
    yield f"    pixelFormatType: {pixels}, options: nil),"


def _return(record: BuildRecord) -> Iterator[str]:
    if record.labels:
        shown = ", ".join(_text(label) for label in record.labels[:3])
        yield f"    // {len(record.labels)} labels: {shown}{', …' if len(record.labels) > 3 else ''}"
    values = [_value(output) for output in record.outputs]
    if len(values) == 1:
        yield f"    return {values[0]}"
        return
    yield "    return ("
    for index, value in enumerate(values):
        yield f"        {value}{',' if index + 1 < len(values) else ''}"
    yield "    )"


def _value(output: Mapping[str, Any]) -> str:
    feature = f"outputs.featureValue(for: {_text(output['name'])})!"
    match output["kind"]:
        case "string":
            return f"{feature}.stringValue"
        case "dictionary":
            return f"{feature}.dictionaryValue as! [String: Double]"
        case "image":
            return f"{feature}.imageBufferValue!"
    return f"{feature}.multiArrayValue!"


def _result_type(output: Mapping[str, Any]) -> str:
    kinds = {"string": "String", "dictionary": "[String: Double]", "image": "CVPixelBuffer"}
    return kinds.get(str(output["kind"]), "MLMultiArray")


def _parameter_type(given: Mapping[str, Any]) -> str:
    return "CGImage" if given["kind"] == "image" else "MLMultiArray"


def _array_text(given: Mapping[str, Any]) -> str:
    dtype = str(given.get("dtype", ""))
    return f"MLMultiArray(shape: {list(given.get('shape', []))}, dataType: {_ARRAYS.get(dtype, dtype)})"


def _identifier(name: str) -> str:
    """A feature's name as a Swift identifier; `x.1` becomes `x_1`, a keyword gets backticks."""
    safe = re.sub(r"\W", "_", name)
    safe = f"_{safe}" if safe[:1].isdigit() else safe
    return f"`{safe}`" if safe in _KEYWORDS else safe


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
