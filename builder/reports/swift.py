"""Swift that calls one very artifact, with its names, sizes and labels (not compiled by the tests)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.artifacts import BuildRecord
from builder.reports.plain import system_name
from builder.reports.swift_detector import detector_snippet
from builder.reports.swift_words import free_name, identifier, literal, type_name
from builder.spec.inputs import TensorInput

_PIXELS = {"G": "kCVPixelFormatType_OneComponent8", "G16": "kCVPixelFormatType_OneComponent16Half"}
_ARRAYS = {"float32": ".float32", "float16": ".float16", "int32": ".int32", "float64": ".double", "int8": ".int8"}
_LABELS_SHOWN = 3


def swift_snippet(record: BuildRecord) -> str:
    """Core ML's own API (`MLModel`, not Xcode's generated class), so that every name is seen; detectors by Vision."""
    detection = record.request.spec.detection
    if detection is not None and detection.output == "nms":
        return detector_snippet(record)
    name, file = record.artifact.path.stem, record.artifact.path.name
    images = any(feature["kind"] == "image" for feature in (*record.inputs, *record.outputs))
    lines = [
        *(["import CoreGraphics"] if images else []),
        "import CoreML",
        *(["import CoreVideo"] if images else []),
        "",
        f"/// Calls {file}.",
        f"/// Add that to the app's target: Xcode compiles it to {name}.mlmodelc.",
        f"@available({system_name(record.request.spec.system.name)}, *)",
        f"struct {type_name(name)} {{",
        "    let model: MLModel",
        "",
        *(f"    {line}" for line in _init(record)),
        f'        let url = Bundle.main.url(forResource: {literal(name)}, withExtension: "mlmodelc")!',
        "        model = try MLModel(contentsOf: url, configuration: configuration)",
        "    }",
        "",
        *(f"    {line}" for line in _predict(record)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _init(record: BuildRecord) -> Iterator[str]:
    """How it is made: of several functions, with the name of one."""
    configuration = "configuration: MLModelConfiguration = MLModelConfiguration()"
    if not record.functions:
        yield f"init({configuration}) throws {{"
        return
    names = [literal(name) for name in record.functions]
    yield f"/// - Parameter function: {' or '.join(names)}; one `MLState` goes through all of them"
    yield f"init(function: String = {names[0]}, {configuration}) throws {{"
    yield "    configuration.functionName = function"


def _predict(record: BuildRecord) -> Iterator[str]:
    names = {identifier(given["name"]) for given in record.inputs}
    features, answer, state = (free_name(name, names) for name in ("features", "answer", "state"))
    stateful = bool(record.request.spec.state)
    parameters = [f"{identifier(given['name'])}: {_parameter_type(given)}" for given in record.inputs]
    parameters += [f"{state}: MLState"] if stateful else []
    results = ", ".join(f"{identifier(o['name'])}: {_result_type(o)}" for o in record.outputs)
    returns = f"({results})" if len(record.outputs) != 1 else results.partition(": ")[2]
    yield from (f"/// - Parameter {identifier(given['name'])}: {_meaning(given)}" for given in record.inputs)
    if stateful:
        yield f"/// - Parameter {state}: one `model.makeState()` for each sequence"
    yield from (f"/// - Returns {identifier(o['name'])}: {_gives(o, record.labels)}" for o in record.outputs)
    yield f"func predict({', '.join(parameters)}) throws -> {returns} {{"
    for name, low, high in _promises(record):
        yield from (f"    {line}" for line in _held(name, low, high))
    yield from (f"    {line}" for line in _given(record.inputs, features))
    using = f", using: {state}" if stateful else ""
    yield f"    let {answer} = try self.model.prediction(from: {features}{using})"
    yield from _return([_value(output, answer) for output in record.outputs])
    yield "}"


def _promises(record: BuildRecord) -> Iterator[tuple[str, str | None, str | None]]:
    """The arrays whose range the recipe declares, with the comparisons that must hold; checks rest on them."""
    for name, given in record.request.spec.artifact_inputs.items():
        if not isinstance(given, TensorInput) or given.default_value is not None:
            continue
        below = "<" if given.dtype == "int32" else "<="
        low = None if given.low is None else f"$0.doubleValue >= {given.low:g}"
        high = None if given.high is None else f"$0.doubleValue {below} {given.high:g}"
        if low or high:
            yield name, low, high


def _held(name: str, low: str | None, high: str | None) -> Iterator[str]:
    """A precondition of debug builds: the artifact was checked in this range alone."""
    variable = identifier(name)
    holds = " && ".join(filter(None, (low, high)))
    yield f"assert((0..<{variable}.count).map {{ {variable}[$0] }}.allSatisfy {{ {holds} }},"
    yield f'       "{name} is beyond the range that the artifact was checked in")'


def _given(inputs: Sequence[Mapping[str, Any]], features: str) -> Iterator[str]:
    """The features that the model takes; an input that may be left out is added where the app gives it."""
    left_out = [given for given in inputs if given.get("optional")]
    collected = free_name("given", {identifier(given["name"]) for given in inputs})
    always = [line for given in inputs if given not in left_out for line in _entry(given)]
    if not left_out:
        yield f"let {features} = try MLDictionaryFeatureProvider(dictionary: ["
        yield from (f"    {line}" for line in always)
        yield "])"
        return
    yield f"var {collected}: [String: Any] = [" + ("" if always else ":]")
    yield from (f"    {line}" for line in always)
    yield from ["]"] if always else []
    for given in left_out:
        name = identifier(given["name"])
        value = f"{collected}[{literal(given['name'])}] = MLFeatureValue(multiArray: {name})"
        yield f"if let {name} = {name} {{ {value} }}"
    yield f"let {features} = try MLDictionaryFeatureProvider(dictionary: {collected})"


def _entry(given: Mapping[str, Any]) -> Iterator[str]:
    name, variable = literal(given["name"]), identifier(given["name"])
    if given["kind"] != "image":
        yield f"{name}: MLFeatureValue(multiArray: {variable}),"
        return
    pixels = _PIXELS.get(given.get("color_layout", "RGB"), "kCVPixelFormatType_32BGRA")
    yield f"{name}: try MLFeatureValue("
    yield f"    cgImage: {variable}, pixelsWide: {given['width']}, pixelsHigh: {given['height']},"
    yield f"    pixelFormatType: {pixels}, options: nil),"


def _return(values: Sequence[str]) -> Iterator[str]:
    if len(values) == 1:
        yield f"    return {values[0]}"
        return
    yield "    return ("
    for index, value in enumerate(values):
        yield f"        {value}{',' if index + 1 < len(values) else ''}"
    yield "    )"


def _meaning(given: Mapping[str, Any]) -> str:
    if given["kind"] == "image":
        size = f"{given['width']} × {given['height']}"
        return f"any picture: it is scaled to {size}, and the model itself normalises it"
    dtype = str(given.get("dtype", ""))
    message = f"`MLMultiArray(shape: {list(given.get('shape', []))}, dataType: {_ARRAYS.get(dtype, dtype)})`"
    if "ranges" in given:
        bounds = (str(low) if low == high else f"{low} to {high}" for low, high in given["ranges"])
        message += f", or of other sizes: {' × '.join(bounds)}"
    if "enumerated_shapes" in given:
        message += f", or of shape {', '.join(str(shape) for shape in given['enumerated_shapes'])}"
    if given.get("optional"):
        message += f"; unless given, every value is {given.get('default_value', 0)}"
    return message


def _gives(output: Mapping[str, Any], labels: Sequence[str] | None) -> str:
    match output["kind"]:
        case "string":
            shown = ", ".join(literal(label) for label in (labels or ())[:_LABELS_SHOWN])
            more = ", …" if labels and len(labels) > _LABELS_SHOWN else ""
            return f"the best of {len(labels or ())} labels: {shown}{more}"
        case "dictionary":
            return "the probability of each label"
        case "image":
            return f"a picture of {output['width']} × {output['height']}"
    return f"{output.get('dtype', '')} {' × '.join(str(size) for size in output.get('shape', ()))}".strip()


def _value(output: Mapping[str, Any], answer: str) -> str:
    feature = f"{answer}.featureValue(for: {literal(output['name'])})!"
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
    kind = "CGImage" if given["kind"] == "image" else "MLMultiArray"
    return f"{kind}? = nil" if given.get("optional") else kind
