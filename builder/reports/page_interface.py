"""The artifact as the app sees it: inputs, outputs, states and labels, and the Swift code that calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.artifacts.record import BuildRecord
from builder.errors import ConfigurationError
from builder.reports.markup import Content, Markup, code, details, element, section, table
from builder.reports.plain import plain, scalar
from builder.spec.inputs import ImageInput
from builder.swift.describe import package_of_record
from builder.swift.features import other_sizes
from builder.swift.remembered import interface_source

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_LABELS_SHOWN = 10
_SIZES = ("ranges", "size_ranges", "enumerated_shapes", "enumerated_sizes")
"""What says which sizes a feature may have."""


def interface(record: BuildRecord) -> Markup:
    """Inputs and outputs as the app sees them."""
    head = ("input", "kind", "what the app gives")
    back = ("output", "kind", "what the app gets")
    given = [
        (code(f["name"]), f["kind"], element("span", feature_text(f), *_normalised(record, f))) for f in record.inputs
    ]
    states = [
        (code(name), "state", f"{state.dtype}, zero at first, kept from one prediction to the next")
        for name, state in record.request.spec.state.items()
    ]
    return section(
        "Inputs and outputs",
        table(head, [*given, *states], class_="features"),
        table(back, [(code(f["name"]), f["kind"], feature_text(f)) for f in record.outputs], class_="features"),
        *_functions(record),
        *_labels(record),
    )


def _functions(record: BuildRecord) -> Iterator[Markup]:
    """What differs between the functions of the artifact; what is above is the first's."""
    if not record.functions:
        return
    yield element("p", "The artifact has several functions, which share its weights and states; above is the first.")
    rows = [
        (code(name), *(element("span", _listed_features(function[side])) for side in ("inputs", "outputs")))
        for name, function in record.functions.items()
    ]
    yield table(("function", "inputs", "outputs"), rows, class_="features")


def _listed_features(features: Sequence[Mapping[str, object]]) -> str:
    return "; ".join(f"{feature['name']}: {feature_text(feature)}" for feature in features)


def swift_code(record: BuildRecord) -> str:
    """The type that an app calls, as the package has it. Raises ConfigurationError where no Swift is written for it."""
    return interface_source(package_of_record(record))


def swift(record: BuildRecord) -> Markup:
    """The type that an app calls, and how to get that."""
    command = f"python -m builder package recipe={record.request.recipe}"
    try:
        source = swift_code(record)
    except ConfigurationError as error:  # of a feature that no Swift is written for
        return section("Call it from Swift", element("p", error.message))
    return section(
        "Call it from Swift",
        element("p", "The interface of the Swift package that ", code(command), " writes. It was not compiled here."),
        element("pre", element("code", source)),
    )


def feature_text(feature: JsonObject) -> str:
    """What an input or output is, in words."""
    kind = feature["kind"]
    if kind == "string":
        return "the best label"
    if kind == "dictionary":
        return "a probability for each label"
    if kind == "image":
        known: tuple[str, ...] = ("width", "height", "color_layout")
        message = (
            f"{feature.get('width', '?')} × {feature.get('height', '?')} pixels, {feature.get('color_layout', '')}"
        )
    else:
        known = ("shape", "dtype")
        message = f"{feature.get('dtype', '')} {' × '.join(str(d) for d in feature.get('shape', ()))}"
    rest = {k: v for k, v in feature.items() if k not in ("name", "kind", *_SIZES, *known)}
    more = [f"{k} {scalar(v)}" for k, v in rest.items()]
    more += filter(None, [other_sizes(feature)])
    return message + (f" ({', '.join(more)})" if more else "")


def _normalised(record: BuildRecord, feature: JsonObject) -> Iterator[Content]:
    """What the artifact itself does to the levels of a picture, so that the app does not do it again."""
    given = record.request.spec.artifact_inputs.get(feature["name"])
    if not isinstance(given, ImageInput):
        return
    settings = ("from_weights", "mean", "std", "scale", "bias")
    given_settings = {s: getattr(given, s) for s in settings if getattr(given, s) not in (None, False)}
    text = "as its weights were trained" if "from_weights" in given_settings else _listed(given_settings)
    yield element("span", f"as it is, 0 to 255: the model normalises it itself ({text})", class_="meaning")


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {scalar(plain(value))}" for name, value in settings.items())


def _labels(record: BuildRecord) -> Iterator[Markup]:
    if not record.labels:
        return
    first = ", ".join(record.labels[:_LABELS_SHOWN])
    if len(record.labels) <= _LABELS_SHOWN:
        yield element("p", f"{len(record.labels)} labels: {first}")
    else:
        yield details(
            f"{len(record.labels)} labels: {first}, …", element("p", ", ".join(record.labels), class_="quiet")
        )
