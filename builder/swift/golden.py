"""Golden predictions of a package: inputs that are drawn, and the outputs that our runtime computes of the artifact.

`golden.json` names them and the limits; numbers lie in files beside it, little end first. A user's own samples are
never taken: a package is given away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from builder.checks.limits import BOXES, NO_SCALE, PARITY, parity_limits
from builder.data import default_data, draw_samples
from builder.data.wording import is_drawn
from builder.errors import ConversionError, SourceError
from builder.spec import BuildSpec
from builder.spec.checks import ComparisonLimits, ParityCheck
from builder.spec.coverage import data_of
from builder.spec.data import Data, NoiseData, PhotographsData
from builder.spec.inputs import ImageInput, TensorInput
from builder.spec.target import FORMATS
from builder.swift.features import Feature
from builder.swift.interface import Function, Package
from coreml_runtime import Model, load
from coreml_runtime.errors import RuntimeFailure

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

FOLDER = "Golden"
PREDICTIONS, MOST_BYTES = 3, 1 << 20
"""So many predictions of each function, one where that has more bytes."""
BOTH = 6.02
"""Decibels: device and runtime may each be as far from the original as the limit says, and be twice as far apart."""
DECISIVE = 0.05
"""By how much the probability of a label exceeds the next where rounding cannot exchange them."""
_INTEGERS_BELOW = 2
"""What integers are drawn below where nobody says what the model takes."""
Given = ImageInput | TensorInput


@dataclass(frozen=True, kw_only=True)
class Golden:
    """`golden.json`, and the files beside it by name."""

    document: JsonObject
    files: Mapping[str, bytes]

    @property
    def text(self) -> str:
        """The text of `golden.json`."""
        return json.dumps(self.document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def make_golden(package: Package, spec: BuildSpec | None, *, boxes: float | None = None) -> Golden:
    """Draw inputs, as the recipe's parity check does where there is a recipe, and execute the artifact on them.

    Of two formats the Core ML file is executed, and both must agree with that. `boxes` is the share of boxes that the
    build's own check wanted. Raises SourceError where the runtime
    cannot load the artifact, ConversionError where it cannot predict.
    """
    path = package.artifact("coreml" if "coreml" in package.frameworks else "coreai").path
    executed = package.functions if "coreml" in package.frameworks else package.core_ai
    files: dict[str, bytes] = {}
    predictions = list(_predictions(path, executed, spec, package, files))
    return Golden(document={"limits": _limits(package, spec, boxes), "predictions": predictions}, files=files)


def _predictions(
    path: Path, functions: tuple[Function, ...], spec: BuildSpec | None, package: Package, files: dict[str, bytes]
) -> Iterator[dict[str, object]]:
    """Every function in turn, on one state where the model has one."""
    state = None
    number = 0
    for function in functions:
        model = _loaded(path, function)
        for given in _drawn(function, spec):
            if state is None and model.states:
                state = model.make_state()
            try:
                answer = model.predict(_as_given(function, given), state=state)
            except RuntimeFailure as error:
                raise ConversionError(f"the golden predictions failed: {error}", code="B0415") from error
            inputs = {each.name: _input(each, given[each.name]) for each in function.inputs if each.name in given}
            outputs = {each.name: _output(each, answer, package) for each in function.outputs}
            yield {
                "function": function.name,
                "begins": number == 0,
                "inputs": _stored(inputs, f"{number}-in", files),
                "outputs": _stored(outputs, f"{number}-out", files),
            }
            number += 1
            if sum(len(value.data) for value in (*inputs.values(), *outputs.values())) > MOST_BYTES:
                break


def _loaded(path: Path, function: Function) -> Model:
    try:
        return load(path, function.name or None)
    except RuntimeFailure as error:
        raise SourceError(f"{path} cannot be loaded: {error}", code="B0302") from error


def _drawn(function: Function, spec: BuildSpec | None) -> Iterator[Mapping[str, object]]:
    """Values by input: pictures, arrays, and plain ones for what nobody draws."""
    declared = {} if spec is None else spec.artifact_inputs
    inputs = {each.name: _as_declared(each, declared.get(each.name)) for each in function.inputs if _is_drawn(each)}
    plain = {each.name: _PLAIN[each.kind] for each in function.inputs if each.kind in _PLAIN and not each.is_optional}
    if not inputs:
        yield plain
        return
    data = _data(spec, inputs)
    for sample in draw_samples(data, inputs, PREDICTIONS, 0 if spec is None else spec.seed):
        yield {**sample.given, **plain}


_PLAIN: JsonObject = {"number": 0.5, "integer": 1, "text": "text"}
"""What inputs get that are neither pictures nor arrays."""


def _is_drawn(feature: Feature) -> bool:
    return feature.kind in ("picture", "array")


def _as_declared(feature: Feature, declared: Given | None) -> Given:
    """The input as a recipe declares it, of the sizes of this function."""
    if feature.kind == "picture":
        channels = 1 if feature.layout in ("G", "G16") else 3
        section = {"shape": [1, channels, *feature.shape], "color_layout": feature.layout, "scale": 1}
        return ImageInput.model_validate({"kind": "image", **section})
    ends = {end: getattr(declared, end, None) for end in ("low", "high")}
    dtype = feature.dtype if feature.dtype in ("float16", "int32") else "int32" if feature.is_whole else "float32"
    if dtype == "int32" and ends["high"] is None:
        ends["high"] = _INTEGERS_BELOW
    shape = [max(size, 1) for size in feature.shape]
    return TensorInput.model_validate({"kind": "tensor", "shape": shape, "dtype": dtype, **ends})


def _data(spec: BuildSpec | None, inputs: Mapping[str, Given]) -> Data:
    """What the recipe's parity check takes, where that comes along with builder."""
    if spec is None:
        pictures = any(isinstance(given, ImageInput) for given in inputs.values())
        return PhotographsData(kind="photographs") if pictures else NoiseData(kind="noise")
    check = _parity(spec)
    data = None if check is None or isinstance(check.data, str) else data_of(check, spec)
    return data if data is not None and is_drawn(data.kind) else default_data(spec)


def _parity(spec: BuildSpec) -> ParityCheck | None:
    return next((check for check in spec.checks.values() if isinstance(check, ParityCheck)), None)


def _as_given(function: Function, given: Mapping[str, object]) -> dict[str, object]:
    """The values as the runtime takes them: those of a picture for Core AI as levels."""
    features = {each.name: each for each in function.inputs}
    return {name: _for_runtime(features[name], value) for name, value in given.items()}


def _for_runtime(feature: Feature, value: Any) -> Any:
    if feature.kind != "picture":
        return value
    picture = _picture(feature, value)
    if feature.is_levels:
        levels = np.asarray(picture)
        channels = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
        return np.ascontiguousarray((channels[::-1] if feature.layout == "BGR" else channels)[None])
    return Image.fromarray(np.asarray(picture, dtype=np.float32)) if feature.layout == "G16" else picture


def _picture(feature: Feature, value: Image.Image) -> Image.Image:
    """The picture in whole levels of 0 to 255, gray or red first."""
    if feature.layout not in ("G", "G16"):
        return value.convert("RGB")
    return Image.fromarray(np.clip(np.rint(np.asarray(value, dtype=np.float32)), 0, 255).astype(np.uint8))


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value: what `golden.json` says of it, and the bytes of its file."""

    entry: JsonObject
    data: bytes = b""


def _input(feature: Feature, value: Any) -> Value:
    match feature.kind:
        case "picture":
            levels = np.asarray(_picture(feature, value))
            levels = levels[..., None] if levels.ndim == 2 else levels
            return Value(entry={"kind": "picture", "shape": list(levels.shape)}, data=levels.tobytes())
        case "array":
            return _array(feature, value)
    return Value(entry={"kind": feature.kind, "text": str(value)})


def _array(feature: Feature, value: object) -> Value:
    array = np.asarray(value)
    kind, dtype = ("integers", "<i4") if feature.is_whole else ("floats", "<f4")
    return Value(entry={"kind": kind, "shape": list(array.shape) or [1]}, data=array.astype(dtype).tobytes())


def _output(feature: Feature, answer: JsonObject, package: Package) -> Value:
    value = answer[feature.name]
    if feature.kind == "array" and package.task == "classifier":  # of Core AI, which has no labels
        value = dict(zip(package.labels, np.ravel(value).tolist(), strict=True))
    if isinstance(value, Mapping):
        shares = {str(label): float(share) for label, share in value.items()}
        data = np.array(list(shares.values()), dtype="<f4").tobytes()
        return Value(entry={"kind": "shares", "labels": list(shares), "shape": [len(shares)]}, data=data)
    if feature.kind == "array":
        return _array(feature, value)
    if feature.kind == "picture":
        levels = np.asarray(value, dtype="<f4")
        levels = levels[..., None] if levels.ndim == 2 else levels
        return Value(entry={"kind": "pixels", "shape": list(levels.shape)}, data=levels.tobytes())
    entry = {"kind": feature.kind, "text": str(value)}
    return Value(entry=entry | ({} if feature.kind == "number" else {"decisive": _is_decisive(answer)}))


def _is_decisive(answer: Mapping[str, object]) -> bool:
    shares = next((value for value in answer.values() if isinstance(value, Mapping)), {})
    best = sorted(map(float, shares.values()), reverse=True)[:2]
    return len(best) < 2 or best[0] - best[1] > DECISIVE


def _stored(values: Mapping[str, Value], stem: str, files: dict[str, bytes]) -> dict[str, Mapping[str, object]]:
    """The entries, those with numbers with the name of their file."""
    entries: dict[str, Mapping[str, object]] = {}
    for number, (name, value) in enumerate(values.items()):
        has_file = "shape" in value.entry
        file = f"{stem}-{number}.bin"
        entries[name] = {**value.entry, **({"file": file} if has_file else {})}
        if has_file:
            files[file] = value.data
    return entries


def _limits(package: Package, spec: BuildSpec | None, boxes: float | None) -> dict[str, Any]:
    """The limits by framework and processor.

    They are the recipe's own limits of parity, or those of its precision; never those of its compression, which say how
    far the artifact may be from the original, not from itself. Programs compute on every processor as they are typed, a
    neural network does so on the CPU alone.
    """
    own = _limit(spec, half=False, boxes=boxes)
    typed = {"cpu": own, "others": own}
    names = {"coreml": "coreML", "coreai": "coreAI"}
    limits = {names[framework]: typed for framework in package.frameworks}
    if any(not FORMATS[artifact.suffix].is_program for artifact in package.artifacts):
        half = _limit(spec, half=True, boxes=boxes)
        limits["coreML"] = {"cpu": own, "others": {name: min(own[name], half[name]) for name in own} | _nothing()}
    return limits


def _limit(spec: BuildSpec | None, *, half: bool, boxes: float | None) -> dict[str, float]:
    known = PARITY["fp16"]
    if spec is not None and not half:
        known = parity_limits(spec.model_copy(update={"compression": {}}), _parity(spec) or ComparisonLimits())
    snr, agreement = (getattr(known.get(name), "min", None) for name in ("snr_db", "agreement"))
    return {
        "snr": round((snr if snr is not None else PARITY["fp16"]["snr_db"].min or 0.0) - BOTH, 2),
        "agreement": round(2 * agreement - 1, 4) if agreement is not None else 0.96,
        "boxes": round(2 * (BOXES["fp16"].min or 0.0 if boxes is None else boxes) - 1, 4),
        **_nothing(),
    }


def _nothing() -> dict[str, float]:
    return {"nothing": NO_SCALE}
