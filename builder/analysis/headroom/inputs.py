"""Inputs to execute a finished file on: as a recipe declares them, or drawn for what the file itself declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from builder.analysis.headroom.analyse import Inputs, Place, analyse
from builder.analysis.headroom.domain import Domain, domain_of
from builder.artifacts.headroom import Headroom
from builder.artifacts.stages import Sample
from builder.data import Samples, draw_samples
from builder.data.stress_samples import StressInput, stress_inputs
from builder.data.wording import shown_count
from builder.errors import BuilderError
from builder.spec.data import NoiseData, PhotographsData
from builder.spec.inputs import ImageInput, TensorInput
from coreml_runtime.coreai.asset import is_asset
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature, read_interface
from coreml_runtime.package import open_package, program_package

SECONDS = 5.0
"""How long a file is executed by `lint`."""
DRAWN = 4
"""So many samples besides stress inputs."""
_LAYOUTS = {"GRAYSCALE": "G", "GRAYSCALE_FLOAT16": "G16", "RGB": "RGB", "BGR": "BGR"}
_DTYPES = {"fp16": "float16", "int32": "int32"}
Given = ImageInput | TensorInput


def analyse_file(
    path: Path, declared: Mapping[str, Mapping[str, object]], places: Mapping[str, Place], *, seconds: float = SECONDS
) -> list[Headroom]:
    """All functions of a file. `declared` holds `low` and `high` of inputs, as a recipe does."""
    if is_asset(path):
        return [Headroom(function="", not_analysed="of Core AI assets no intervals are computed")]
    try:
        specification = program_package(open_package(path)).specification
    except RuntimeFailure as error:
        return [Headroom(function="", not_analysed=str(error))]
    described = {entry.name: entry for entry in specification.description.functions}
    found = []
    for name, description in (described or {"": specification.description}).items():
        try:
            inputs = _inputs(read_interface(description).inputs, declared)
        except (RuntimeFailure, ValueError, BuilderError) as error:
            found.append(Headroom(function=name, not_analysed=f"no inputs can be drawn: {error}"))
            continue
        domain = _domain(inputs, declared)
        found.append(analyse(path, domain, synthetic(inputs, seconds), function=name, places=places))
    return found


def _domain(inputs: Mapping[str, Given], declared: Mapping[str, Mapping[str, object]]) -> Domain:
    """Of integers that nobody declares nothing is known, whatever is drawn for them."""
    known = {name: each for name, each in inputs.items() if name in declared or not _is_integer(each)}
    unknown = {name: each for name, each in inputs.items() if name not in known}
    one, other = domain_of(known), domain_of(unknown, known=False)
    return Domain(
        ranges={**one.ranges, **other.ranges},
        words=(*one.words, *other.words),
        is_declared=one.is_declared and not unknown,
    )


def _is_integer(given: Given) -> bool:
    return isinstance(given, TensorInput) and given.dtype == "int32"


def synthetic(inputs: Mapping[str, Given], seconds: float, seed: int = 0) -> Inputs:
    """Samples that are drawn, and stress inputs."""
    pictures = any(isinstance(given, ImageInput) for given in inputs.values())
    data = PhotographsData(kind="photographs") if pictures else NoiseData(kind="noise")
    return of_samples(draw_samples(data, inputs, DRAWN, seed), stress_inputs(data, inputs, seed), seconds)


def of_samples(samples: Sequence[Sample], stress: Sequence[StressInput], seconds: float) -> Inputs:
    """Samples and stress inputs in turn, so that what is executed before the time is over has both."""
    turns: list[tuple[bool, int]] = [
        (own, number)
        for number in range(max(len(samples), len(stress)))
        for own, count in ((True, len(samples)), (False, len(stress)))
        if number < count
    ]

    def given() -> Iterator[Mapping[str, object]]:
        for own, number in turns:
            yield dict((samples[number] if own else stress[number].make()).given)

    def describe(executed: Sequence[int]) -> str:
        own = sum(turns[number][0] for number in executed)
        rest = len(executed) - own
        found = [_called(samples, own)] if own else []
        found += [f"{rest} stress input{'s' if rest != 1 else ''}"] if rest else []
        return " and ".join(found) or "no input"

    return Inputs(given=given(), describe=describe, seconds=seconds)


def _called(samples: Sequence[Sample], count: int) -> str:
    if isinstance(samples, Samples):
        return shown_count(samples.kind, count, samples.available)
    return f"{count} sample{'s' if count != 1 else ''}"


def _inputs(features: Mapping[str, Feature], declared: Mapping[str, Mapping[str, object]]) -> dict[str, Given]:
    """Inputs as a recipe writes them, of their default sizes."""
    found: dict[str, Given] = {}
    for name, feature in features.items():
        if isinstance(feature, ImageFeature):
            layout = _LAYOUTS[feature.color]
            channels = 1 if layout in ("G", "G16") else 3
            section = {"shape": [1, channels, feature.height, feature.width], "color_layout": layout, "scale": 1}
            found[name] = ImageInput.model_validate({"kind": "image", **section})
        elif isinstance(feature, ArrayFeature):
            dtype = _DTYPES.get(feature.dtype, "float32")
            ends = {end: declared.get(name, {}).get(end) for end in ("low", "high")}
            if dtype == "int32" and ends["high"] is None:
                ends["high"] = 2  # what is drawn, not what is believed
            found[name] = TensorInput.model_validate(
                {"kind": "tensor", "shape": list(feature.shape), "dtype": dtype, **ends}
            )
        else:
            raise ValueError(f"input {name!r} is neither an array nor a picture")
    return found
