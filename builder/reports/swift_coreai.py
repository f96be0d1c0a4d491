"""Swift that calls one very Core AI artifact, with its names, sizes and labels (not compiled by the tests).

The calls are those of Apple's documentation of the framework: AIModel, InferenceFunction, NDArray and MutableViews
(https://developer.apple.com/documentation/coreai).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.artifacts import BuildRecord
from builder.reports.plain import system_name
from builder.reports.swift_words import free_name, identifier, literal, type_name

_TYPES = {
    "float32": "Float", "float16": "Float16", "int32": "Int32", "int16": "Int16", "int8": "Int8", "uint8": "UInt8",
    "uint16": "UInt16", "uint32": "UInt32", "bool": "Bool",
}  # fmt: skip
_CHANNELS = {"RGB": "[0, 1, 2]", "BGR": "[2, 1, 0]"}
_LABELS_SHOWN = 200

_ARRAYS = """\
/// Writes values in the order of their indices, the last axis fastest; Core AI decides how they lie in memory.
private static func fill<T: BitwiseCopyable>(_ array: inout NDArray, with values: [T]) {
    precondition(values.count == array.shape.reduce(1, *), "the array takes another number of values")
    var view = array.mutableView(as: T.self)
    view.withUnsafeMutablePointer { pointer, shape, strides in
        for (place, value) in values.enumerated() { pointer[offset(place, shape, strides)] = value }
    }
}

/// The values in the order of their indices, the last axis fastest.
private static func values<T: BitwiseCopyable>(_ array: NDArray, as type: T.Type) -> [T] {
    let count = array.shape.reduce(1, *)
    return array.view(as: type).withUnsafePointer { pointer, shape, strides in
        (0..<count).map { pointer[offset($0, shape, strides)] }
    }
}

private static func offset(_ place: Int, _ shape: Span<Int>, _ strides: Span<Int>) -> Int {
    var rest = place
    var found = 0
    for axis in (0..<shape.count).reversed() {
        found += rest % shape[axis] * strides[axis]
        rest /= shape[axis]
    }
    return found
}"""

_COLORS = """\
/// The levels (1, C, H, W) of a picture that is scaled to the size which the model takes.
private static func levels(_ image: CGImage, _ width: Int, _ height: Int, channels: [Int]) -> [UInt8] {
    var pixels = [UInt8](repeating: 0, count: 4 * width * height)
    pixels.withUnsafeMutableBytes { bytes in
        let context = CGContext(
            data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
            space: CGColorSpace(name: CGColorSpace.sRGB)!, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)!
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
    }
    return channels.flatMap { channel in (0..<width * height).map { pixels[4 * $0 + channel] } }
}"""

_GRAYS = """\
/// The levels (1, 1, H, W) of a picture that is scaled to the size which the model takes.
private static func grays(_ image: CGImage, _ width: Int, _ height: Int) -> [UInt8] {
    var pixels = [UInt8](repeating: 0, count: width * height)
    pixels.withUnsafeMutableBytes { bytes in
        let context = CGContext(
            data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width,
            space: CGColorSpaceCreateDeviceGray(), bitmapInfo: CGImageAlphaInfo.none.rawValue)!
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
    }
    return pixels
}"""


def core_ai_snippet(record: BuildRecord) -> str:
    """A type that loads the asset once and predicts from pictures and plain arrays."""
    name, file = record.artifact.path.stem, record.artifact.path.name
    states = list(record.request.spec.state)
    pictures = {_layout(given) for given in record.inputs if _is_picture(given)}
    lines = [
        "import CoreAI",
        *(["import CoreGraphics"] if pictures else []),
        "import Foundation",
        "",
        f"/// Calls {file}.",
        "/// Add that to the app's target. Core AI is on devices and Macs with system 27, and in no simulator.",
        f"@available({system_name(record.request.spec.system.name)}, *)",
        f"struct {type_name(name)} {{",
        *_indented(_labels(record)),
        "    let function: InferenceFunction",
        "",
        *_indented(_init(record, name)),
        "",
        *_indented(_states(record)),
        *_indented(_predict(record, states)),
        "",
        *_indented(_ARRAYS.splitlines()),
        *(["", *_indented(_COLORS.splitlines())] if pictures - {"G"} else []),
        *(["", *_indented(_GRAYS.splitlines())] if "G" in pictures else []),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _indented(lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield from (f"    {line}" if line else "" for line in lines)


def _labels(record: BuildRecord) -> Iterator[str]:
    labels = record.labels or ()
    if not labels:
        return
    yield "/// In the order of the probabilities."
    if len(labels) > _LABELS_SHOWN:
        yield f"/// All {len(labels)} are in metadata.json of the asset, under creatorDefinedMetadata.labels."
    shown = ", ".join(literal(label) for label in labels[:_LABELS_SHOWN])
    yield f"static let labels = [{shown}]"


def _init(record: BuildRecord, name: str) -> Iterator[str]:
    if record.functions:
        names = [literal(each) for each in record.functions]
        yield f"/// - Parameter name: {' or '.join(names)}; they differ in the sizes that they take"
        yield f"init(function name: String = {names[0]}) async throws {{"
    else:
        yield "init() async throws {"
    yield f'    let url = Bundle.main.url(forResource: {literal(name)}, withExtension: "aimodel")!'
    yield "    let model = try await AIModel(contentsOf: url)"
    yield f"    function = try model.loadFunction(named: {'name' if record.functions else literal('main')})!"
    yield "}"


def _states(record: BuildRecord) -> Iterator[str]:
    """A value that the app keeps for each sequence."""
    states = record.request.spec.state
    if not states:
        return
    owner = type_name(record.artifact.path.stem)
    yield "/// One for each sequence; zeros at first. All functions of the model take the same."
    yield "struct State {"
    yield from (f"    var {identifier(name)}: NDArray" for name in states)
    yield ""
    yield "    init(of function: InferenceFunction) {"
    for name, state in states.items():
        yield f"        {identifier(name)} = State.zeros({literal(name)}, function, {_TYPES[state.dtype]}.self)"
    yield "    }"
    yield ""
    yield "    private static func zeros<T: BitwiseCopyable & ExpressibleByIntegerLiteral>("
    yield "        _ name: String, _ function: InferenceFunction, _ type: T.Type"
    yield "    ) -> NDArray {"
    yield "        guard case .ndArray(let descriptor)? = function.descriptor.stateDescriptor(of: name) else {"
    yield '            fatalError("the model has no state \\(name)")'
    yield "        }"
    yield "        var array = NDArray(descriptor: descriptor)"
    yield f"        {owner}.fill(&array, with: [T](repeating: 0, count: array.shape.reduce(1, *)))"
    yield "        return array"
    yield "    }"
    yield "}"
    yield ""


def _predict(record: BuildRecord, states: list[str]) -> Iterator[str]:
    names = {identifier(given["name"]) for given in record.inputs}
    answer, state, views = (free_name(word, names) for word in ("answer", "state", "views"))
    parameters = [each for given in record.inputs for each in _parameters(given)]
    parameters += [f"{state}: inout State"] if states else []
    yield from (f"/// - Parameter {identifier(given['name'])}: {_meaning(given)}" for given in record.inputs)
    yield from (f"/// - Returns {identifier(each['name'])}: {_sizes(each)}" for each in record.outputs)
    yield f"func predict({', '.join(parameters)}) async throws -> {_returned(record)} {{"
    for given in record.inputs:
        yield from (f"    {line}" for line in _array(given))
    for number, name in enumerate(states):
        if not number:
            yield f"    var {views} = InferenceFunction.MutableViews()"
        yield f"    {views}.insert(&{state}.{identifier(name)}, for: {literal(name)})"
    listed = ", ".join(f"{literal(given['name'])}: {_variable(given)}" for given in record.inputs)
    with_states = f", states: consume {views}" if states else ""
    yield f"    var {answer} = try await function.run(inputs: [{listed}]{with_states})"
    found = [
        f"Self.values({answer}.remove({literal(each['name'])})!.ndArray!, as: {_type(each)}.self)"
        for each in record.outputs
    ]
    if len(found) == 1:
        yield f"    return {found[0]}"
    else:
        yield "    return ("
        yield from (f"        {value}{',' if place + 1 < len(found) else ''}" for place, value in enumerate(found))
        yield "    )"
    yield "}"


def _returned(record: BuildRecord) -> str:
    types = [f"[{_type(each)}]" for each in record.outputs]
    if len(types) == 1:
        return types[0]
    listed = (f"{identifier(o['name'])}: {t}" for o, t in zip(record.outputs, types, strict=True))
    return f"({', '.join(listed)})"


def _parameters(given: Mapping[str, Any]) -> Iterator[str]:
    name = identifier(given["name"])
    if _is_picture(given):
        yield f"{name}: CGImage"
    else:
        yield f"{name}: [{_type(given)}]"
    if _is_open(given):
        yield f"{name.strip('`')}Shape: [Int] = {list(given['shape'])}"


def _array(given: Mapping[str, Any]) -> Iterator[str]:
    """The input as an array of the framework."""
    name, variable = identifier(given["name"]), _variable(given)
    shape = f"{name.strip('`')}Shape" if _is_open(given) else str(list(given["shape"]))
    yield f"var {variable} = NDArray(shape: {shape}, scalarType: .{given['dtype']})"
    if not _is_picture(given):
        yield f"Self.fill(&{variable}, with: {name})"
        return
    sides = f"{shape}[3], {shape}[2]" if _is_open(given) else f"{given['shape'][3]}, {given['shape'][2]}"
    if _layout(given) == "G":
        yield f"Self.fill(&{variable}, with: Self.grays({name}, {sides}))"
    else:
        yield f"Self.fill(&{variable}, with: Self.levels({name}, {sides}, channels: {_CHANNELS[_layout(given)]}))"


def _variable(given: Mapping[str, Any]) -> str:
    return f"{identifier(given['name']).strip('`')}Array"


def _meaning(given: Mapping[str, Any]) -> str:
    if _is_picture(given):
        sizes = "any picture: it is scaled, and the model itself normalises it"
    elif "color_layout" in given:
        sizes = f"levels of 0 to 255, {_sizes(given)}"
    else:
        sizes = _sizes(given)
    if "ranges" in given:
        bounds = (str(low) if low == high else f"{low} to {_high(high)}" for low, high in given["ranges"])
        sizes += f", or of other sizes: {' × '.join(bounds)}"
    if "enumerated_shapes" in given:
        sizes += f", or of shape {', '.join(str(shape) for shape in given['enumerated_shapes'])}"
    return sizes


def _high(high: int) -> str:
    return "any" if high < 0 else str(high)


def _sizes(feature: Mapping[str, Any]) -> str:
    return f"{feature.get('dtype', '')} {' × '.join(str(size) for size in feature.get('shape', ()))}".strip()


def _type(feature: Mapping[str, Any]) -> str:
    return _TYPES[str(feature["dtype"])]


def _layout(given: Mapping[str, Any]) -> str:
    return str(given["color_layout"])


def _is_picture(given: Mapping[str, Any]) -> bool:
    """Whether the input is filled from a picture here: levels in bytes of a layout that Core Graphics has."""
    return given.get("color_layout") in ("RGB", "BGR", "G")


def _is_open(given: Mapping[str, Any]) -> bool:
    return "ranges" in given or "enumerated_shapes" in given
