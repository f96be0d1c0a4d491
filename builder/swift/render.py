"""The files of a Swift package, from the templates beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from builder.spec.target import CORE_AI, system_versions
from builder.swift.features import Feature
from builder.swift.interface import Function, Package
from builder.swift.words import comment, literal
from builder.util.text import visible

_CHANNELS = {"RGB": [0, 1, 2], "BGR": [2, 1, 0], "G": [0]}
_SCALARS = {
    "float32": "Float", "float16": "Float16", "int32": "Int32", "int16": "Int16", "int8": "Int8", "uint8": "UInt8",
    "uint16": "UInt16", "uint32": "UInt32", "bool": "Bool",
}  # fmt: skip
_WIDTH = 120
_GIVEN = {"floats": "Float", "integers": "Int32"}


def swift_files(package: Package, *, engines: str) -> dict[str, str]:
    """The text of every file by its path in the package; `engines` says what computed the golden outputs."""
    sources, tests = f"Sources/{package.module}", f"Tests/{package.module}Tests"
    files = {
        "Package.swift": "Package.swift",
        "README.md": "README.md",
        f"{sources}/{package.type}.swift": "Model.swift",
        f"{sources}/Features.swift": "Features.swift",
        f"{tests}/GoldenTests.swift": "GoldenTests.swift",
        f"{tests}/Golden.swift": "Golden.swift",
    }
    if "coreml" in package.frameworks:
        files[f"{sources}/CoreMLRunner.swift"] = "CoreML.swift"
    if "coreai" in package.frameworks:
        files[f"{sources}/CoreAIRunner.swift"] = "CoreAI.swift"
    if len(package.frameworks) > 1:
        files[f"{sources}/Choice.swift"] = "Choice.swift"
    if package.has_pictures:
        files[f"{sources}/Pictures.swift"] = "Pictures.swift"
    context = _context(package, engines)
    return {path: _render(template, context) for path, template in sorted(files.items())}


def interface_source(package: Package) -> str:
    """The file with the type that an app uses; the report shows it."""
    return _render("Model.swift", _context(package, ""))


def usage_source(package: Package) -> str:
    """The few lines with which an app calls the model."""
    return _render("usage.swift", _named(package, ""))


@cache
def _environment() -> Environment:
    """Every template, which is compiled once."""
    environment = Environment(
        loader=PackageLoader("builder.swift"),
        autoescape=False,  # Swift, not HTML: texts of others pass through `literal`, `comment` or `visible`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "literal": literal, "comment": _comment, "visible": visible, "taken": _taken, "nd_array": _nd_array,
        "scalar_of_core_ai": lambda feature: _SCALARS[feature.dtype],
    }  # fmt: skip
    return environment


def _render(template: str, context: Mapping[str, object]) -> str:
    return _environment().get_template(f"{template}.j2").render(context)


def _context(package: Package, engines: str) -> Mapping[str, object]:
    """What the templates of a package's files name."""
    named = _named(package, engines)
    return {**named, "usage": _render("usage.swift", named).rstrip("\n")}


def _named(package: Package, engines: str) -> Mapping[str, object]:
    return {"package": package, "engines": engines, **_names(package)}


def _names(package: Package) -> Mapping[str, object]:
    """What several templates call things."""
    named = ", function: String" if package.functions_named else ""
    state = f", state: {package.module}State" if package.states else ""
    return {
        "type_error": f"{package.module}Error",
        "type_state": f"{package.module}State",
        "type_framework": f"{package.module}Framework",
        "run_parameters": named + state,
        "run_signature": _run(named + state),
        "load": "try await MLModel.load" if package.generation >= 15 else "try MLModel",
        "signature": _signature,
        "accessors": _accessors(package),
        "core_ai_systems": ", ".join(f"{system} {version}" for system, version in system_versions(CORE_AI).items()),
        "shares": next((each for each in package.result if each.kind == "shares"), package.result[0]),
    }


def _accessors(package: Package) -> frozenset[str]:
    """Which kinds of values the code takes out of what a runner gives, or out of what it is given."""
    if package.task == "classifier":
        found = {"shares"}
    elif package.task == "detector":
        found = {"floats"}
    else:
        found = {_case(each) for function in package.functions for each in function.outputs}
        found |= {"shape"} if package.has_struct else set()
    inputs = [each for function in package.core_ai for each in function.inputs if each.kind == "array"]
    found |= {_case(each) for each in inputs} | ({"shape"} if inputs else set())
    return frozenset(found)


def _run(parameters: str) -> str:
    """The first line of the method with which runners run the model, in three where it is long."""
    line = f"    func run(_ inputs: [String: Feature]{parameters}) async throws -> [String: Feature] {{"
    if len(line) <= _WIDTH:
        return line
    return f"    func run(\n        _ inputs: [String: Feature]{parameters}\n    ) async throws -> [String: Feature] {{"


def _signature(words: str, function: Function, parameters: str, result: str) -> str:
    """The first line of a method, in three where it is long."""
    line = f"    {words} {function.method}({parameters}) async throws -> {result} {{"
    if len(line) <= _WIDTH:
        return line
    listed = parameters if len(parameters) <= _WIDTH - 8 else parameters.replace(", ", ",\n        ")
    return f"    {words} {function.method}(\n        {listed}\n    ) async throws -> {result} {{"


def _case(feature: Feature) -> str:
    """Which case of the enumeration `Feature` holds it."""
    return {"array": "integers" if feature.is_whole else "floats", "picture": "pixels"}.get(feature.kind, feature.kind)


def _comment(text: str, indent: int = 0) -> str:
    return comment(text, indent=indent)


def _taken(feature: Feature) -> str:
    """The expression that takes an output out of what the runner gives."""
    return f"outputs.{_case(feature)}({literal(feature.name)})"


def _nd_array(feature: Feature) -> str:
    """The expression that makes Core AI's array of an input of the runner."""
    name = literal(feature.name)
    if feature.kind == "picture":
        height, width = feature.shape
        channels = _CHANNELS[feature.layout]
        return f"Self.levels(inputs[{name}], width: {width}, height: {height}, channels: {channels}, input: {name})"
    case = "integers" if feature.is_whole else "floats"
    scalars = _converted(f"inputs.{case}({name})", _GIVEN[case], _SCALARS[feature.dtype])
    return f"NDArray(scalars: {scalars}, shape: inputs.shape({name}))"


def _converted(values: str, given: str, wanted: str) -> str:
    if given == wanted:
        return values
    if wanted == "Bool":
        return f"{values}.map {{ $0 != 0 }}"
    exact = "" if wanted.startswith("Float") else "clamping: "
    return f"{values}.map {{ {wanted}({exact}$0) }}"
