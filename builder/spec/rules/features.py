"""What cannot work about inputs, states, outputs, classifier and metadata, found before anything is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.base import RESERVED_NAMES
from builder.spec.inputs import ImageInput, RangeDimension, TensorInput, captured_shape, is_flexible
from builder.spec.outputs import ImageOutput, TensorOutput
from builder.spec.problems import Path, needs

RESERVED = ("com.github.apple.coremltools.", "com.github.builder.")
"""What keys of the metadata begin with that tools write themselves."""

MOST_ELEMENTS = 2**28
"""A gigabyte in fp32."""

_KINDS = {"input": "an input", "state": "a state", "output": "an output", "classifier": "the predicted label"}
"""A section of the recipe: what it names."""

INT32 = (-(2**31), 2**31 - 1)
FLOAT16 = 65504.0
"""The largest number in half precision."""


def find_feature_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield every problem of what the artifact takes, keeps, gives and says of itself."""
    for name, given in spec.artifact_inputs.items():
        path = ("input", name)
        if isinstance(given, ImageInput):
            yield from _image(spec, path, given)
        else:
            yield from _tensor(spec, path, given)
        yield from _shapes(spec, path, given)
    yield from _named_dimensions(spec)
    yield from _states(spec)
    yield from _outputs(spec)
    yield from _classifier(spec)
    yield from _names(spec)
    yield from _own_names(spec)
    for key in spec.metadata.user:
        if key.startswith(RESERVED):
            yield Diagnostic(
                code="B0248", path=("metadata", "user", key), message=f"the key {key} is reserved for tools"
            )


def _image(spec: BuildSpec, path: Path, given: ImageInput) -> Iterator[Diagnostic]:
    channels = channel_count(given.color_layout)
    if given.shape[:2] != [1, channels]:
        yield Diagnostic(
            code="B0246",
            path=(*path, "shape"),
            message=f"a {given.color_layout} image has shape [1, {channels}, H, W], not {_shown(given.shape)}",
        )
    ways = {
        "from_weights": given.from_weights,
        "mean and std": given.mean is not None or given.std is not None,
        "scale and bias": given.scale is not None or given.bias is not None,
    }
    chosen = [way for way, given_ in ways.items() if given_]
    if len(chosen) != 1:
        text = " and ".join(chosen) if chosen else "none"
        yield Diagnostic(
            code="B0246",
            path=path,
            message=f"say one of from_weights, mean and std, or scale and bias; this says {text}",
            hint="`scale: 1` passes levels of 0 to 255 on; null or false takes back what a group option set",
        )
    if (given.mean is None) != (given.std is None):
        yield Diagnostic(code="B0246", path=path, message="mean and std belong together, and one of them is missing")
    yield from _scaling(path, given)
    yield from _per_channel(path, given, ("mean", "std", "scale", "bias"))
    for value in _values(given.mean):
        if abs(value) > 1:
            yield Diagnostic(
                code="B0246",
                path=(*path, "mean"),
                message=f"mean is in levels of 0 to 1, and this says {value:g}",
                hint=f"for levels of 0 to 255 divide by 255: {value / 255:.6g}",
            )
            break
    if any(value <= 0 for value in _values(given.std)):
        yield Diagnostic(code="B0246", path=(*path, "std"), message="a standard deviation is greater than 0")
    if given.color_layout == "G16":
        yield from needs(spec.target, (*path, "color_layout"), "a grayscale image in half precision (G16)", 16)


def channel_count(color_layout: str) -> int:
    """How many channels the model has for a colour layout."""
    return 1 if color_layout in ("G", "G16") else 3


def _scaling(path: Path, given: ImageInput | ImageOutput) -> Iterator[Diagnostic]:
    if given.bias is not None and given.scale is None:
        yield Diagnostic(
            code="B0246", path=(*path, "bias"), message="bias needs a scale", hint="write `scale: 1` to add bias only"
        )
    if any(value == 0 for value in _values(given.scale)):
        yield Diagnostic(code="B0246", path=(*path, "scale"), message="a scale of 0 leaves nothing of the picture")


def _per_channel(path: Path, given: ImageInput | ImageOutput, keys: tuple[str, ...]) -> Iterator[Diagnostic]:
    channels = channel_count(given.color_layout)
    for key in keys:
        value = getattr(given, key)
        if isinstance(value, list) and len(value) not in (1, channels):
            yield Diagnostic(
                code="B0246",
                path=(*path, key),
                message=f"{len(value)} values for {channels} channel(s) of a {given.color_layout} image",
            )


def _values(value: float | list[float] | None) -> list[float]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _tensor(spec: BuildSpec, path: Path, given: TensorInput) -> Iterator[Diagnostic]:
    if given.dtype == "float16":
        yield from needs(spec.target, (*path, "dtype"), "a float16 input", 16)
    if given.dtype == "int32" and given.high is None:
        yield Diagnostic(
            code="B0246",
            path=path,
            message="an int32 input needs `high`: its examples are drawn from low (0) to below high",
            hint="for token ids, write the size of the vocabulary",
        )
    if given.low is not None and given.high is not None and given.low >= given.high:
        yield Diagnostic(
            code="B0246", path=(*path, "low"), message=f"low ({given.low}) is not less than high ({given.high})"
        )
    elif given.dtype == "int32" and given.high is not None and given.high - (given.low or 0) == 1:
        low = given.low or 0
        yield Diagnostic(
            code="B0246",
            path=(*path, "high"),
            message=f"the only integer from low ({low:g}) to below high ({given.high:g}) is {low:g}",
            hint=f"for this number alone: `{path[-1]}: {{constant: {low:g}}}`; for more, raise `high`, which "
            f"itself is never drawn, as with the size of a vocabulary: `high: {given.high + 1:g}`",
        )
    for key in ("low", "high", "default_value"):
        value = getattr(given, key)
        if value is not None and (problem := _unfit(value, given.dtype)):
            yield Diagnostic(
                code="B0246", path=(*path, key), message=f"{value:g} {problem}, and the input is {given.dtype}"
            )


def _unfit(value: float, dtype: str) -> str | None:
    """Why a value cannot be of a dtype, or None."""
    if dtype == "int32":
        if value != int(value):
            return "is not an integer"
        return None if INT32[0] <= value <= INT32[1] else "is out of range"
    return "is out of range" if dtype == "float16" and abs(value) > FLOAT16 else None


def _shapes(spec: BuildSpec, path: Path, given: ImageInput | TensorInput) -> Iterator[Diagnostic]:
    """What is wrong with the size of a shape, and with flexible and enumerated shapes."""
    elements = math.prod(captured_shape(given))
    if elements > MOST_ELEMENTS:
        yield Diagnostic(
            code="B0247",
            path=(*path, "shape"),
            message=f"an input of {elements:.3g} elements is more than any device holds (at most 2**28)",
        )
    if given.enumerated_shapes is None:
        return
    path = (*path, "enumerated_shapes")
    if any(isinstance(size, RangeDimension) for size in given.shape):
        yield Diagnostic(
            code="B0247", path=path, message="a shape is flexible by ranges or by enumerated shapes, and this says both"
        )
        return
    if list(given.shape) not in given.enumerated_shapes:
        yield Diagnostic(
            code="B0247", path=path, message=f"the enumerated shapes do not include the shape {given.shape} itself"
        )
    for index, shape in enumerate(given.enumerated_shapes):
        if len(shape) != len(given.shape):
            yield Diagnostic(
                code="B0247",
                path=path,
                message=f"shape {shape} has {len(shape)} dimensions, and the input has {len(given.shape)}",
            )
        elif isinstance(given, ImageInput) and shape[:2] != given.shape[:2]:
            yield Diagnostic(
                code="B0247", path=path, message=f"shape {shape} changes more than height and width of the picture"
            )
        if shape in given.enumerated_shapes[:index]:
            yield Diagnostic(code="B0247", path=path, message=f"shape {shape} is there twice")
    many = [name for name, other in spec.artifact_inputs.items() if other.enumerated_shapes]
    if len(many) > 1 and path[1] == many[0]:
        yield from needs(spec.target, path, "more than one input with enumerated shapes", 18)
        counts = {name: len(spec.artifact_inputs[name].enumerated_shapes or ()) for name in many}
        if len(set(counts.values())) > 1:
            text = ", ".join(f"{name} {count}" for name, count in counts.items())
            yield Diagnostic(
                code="B0247",
                path=path,
                message=f"inputs with enumerated shapes change together, and their numbers of shapes differ: {text}",
            )


def _named_dimensions(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Dimensions of one name must have one range."""
    seen: dict[str, RangeDimension] = {}
    for name, given in spec.artifact_inputs.items():
        for size in given.shape:
            if not isinstance(size, RangeDimension) or size.name is None:
                continue
            first = seen.setdefault(size.name, size)
            if first != size:
                yield Diagnostic(
                    code="B0247",
                    path=("input", name, "shape"),
                    message=f"dimension {size.name} is {_shown([size])} here and {_shown([first])} in another place",
                )


def _states(spec: BuildSpec) -> Iterator[Diagnostic]:
    for name, state in spec.state.items():
        path = ("state", name)
        if not spec.format_kind.is_program:
            yield Diagnostic(
                code="B0242",
                path=path,
                message="a neural network (format mlmodel) keeps no state; that needs an ML program",
                hint="write `format: mlpackage` with target ios18 or later",
            )
        else:
            yield from needs(spec.target, path, "a state", 18)
        same = [other for other, given in spec.state.items() if given.buffer == state.buffer]
        if same[0] != name:
            yield Diagnostic(
                code="B0249",
                path=(*path, "buffer"),
                message=f"buffer {state.buffer} is kept by state {same[0]} already",
            )


def _outputs(spec: BuildSpec) -> Iterator[Diagnostic]:
    for index, (name, output) in enumerate(spec.output.items()):
        path = ("output", name)
        if isinstance(output, ImageOutput):
            yield from _scaling(path, output)
            yield from _per_channel(path, output, ("scale", "bias"))
            if output.color_layout == "G16":
                yield from needs(spec.target, (*path, "color_layout"), "a grayscale image in half precision (G16)", 16)
        else:
            yield from _tensor_output(spec, (*path, "dtype"), output)
        if index == 0 and spec.classifier is not None and (isinstance(output, ImageOutput) or output.dtype):
            yield Diagnostic(
                code="B0250",
                path=path,
                message="the first output of a classifier is its dictionary of probabilities: give it a name alone",
            )


def _tensor_output(spec: BuildSpec, path: Path, output: TensorOutput) -> Iterator[Diagnostic]:
    if output.dtype == "float16":
        yield from needs(spec.target, path, "a float16 output", 16)
    elif output.dtype == "int32" and not spec.format_kind.is_program:
        yield Diagnostic(
            code="B0242",
            path=path,
            message="the outputs of a neural network (format mlmodel) are float32",
            hint="leave the dtype out, or write `format: mlpackage` with target ios15 or later",
        )


def _classifier(spec: BuildSpec) -> Iterator[Diagnostic]:
    flexible = [name for name, given in spec.artifact_inputs.items() if is_flexible(given)]
    if spec.classifier is not None and flexible and not spec.format_kind.is_program:
        yield Diagnostic(
            code="B0242", path=("input", flexible[0], "shape"), message="a classifier in mlmodel has fixed shapes"
        )


def _names(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Every feature has a name of its own, which Core ML does not use for something else."""
    names = [(("input", name), name) for name in spec.artifact_inputs]
    names += [(("state", name), name) for name in spec.state]
    names += [(("output", name), name) for name in spec.output]
    if spec.classifier is not None:
        names.append((("classifier", "predicted_feature_name"), spec.classifier.predicted_feature_name))
    seen: dict[str, Path] = {}
    for path, name in names:
        if name in RESERVED_NAMES:
            yield Diagnostic(
                code="B0248",
                path=path,
                message=f"`{name}` is a word of Core ML's own language and cannot name {_KINDS[path[0]]}",
                hint=_renamed(spec, path, name),
            )
        first = seen.setdefault(name, path)
        if first != path:
            yield Diagnostic(code="B0248", path=path, message=f"{_KINDS[first[0]]} is named {name} already")


def _renamed(spec: BuildSpec, path: Path, name: str) -> str:
    """How to give a feature another name, as it can be pasted."""
    if path[0] not in ("input", "output"):
        return f"call it `{name}_`"
    section = spec.input if path[0] == "input" else spec.output
    written = {"source_name": name, **section[name].model_dump(mode="json", exclude_unset=True)}
    return f"call it `{name}_{path[0]}: {_flow(written)}`"


def _flow(value: object) -> str:
    """Plain data as YAML in one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_flow(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _own_names(spec: BuildSpec) -> Iterator[Diagnostic]:
    """What the model itself calls its inputs and outputs, and inputs that are baked in."""
    if not spec.artifact_inputs:
        yield Diagnostic(
            code="B0246", path=("input",), message="every input is a constant: leave one for the app to give"
        )
    for section, entries in (("input", spec.input), ("output", spec.output)):
        seen: set[str] = set()
        for name, entry in entries.items():
            own = entry.source_name or name
            if own in seen:
                yield Diagnostic(code="B0248", path=(section, name), message=f"{own} of the model is named twice")
            seen.add(own)


def _shown(shape: list[int | RangeDimension] | list[RangeDimension]) -> str:
    """A shape for people: `[1, 3, 32 to 64, 32]`."""
    sizes = [
        f"{size.min} to {size.max} (default {size.captured_at})" if isinstance(size, RangeDimension) else str(size)
        for size in shape
    ]
    return f"[{', '.join(sizes)}]"
