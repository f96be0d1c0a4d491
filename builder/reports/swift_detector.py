"""Swift that lets Vision find objects with one very detector (not compiled by the tests)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from builder.artifacts import BuildRecord
from builder.reports.plain import system_name
from builder.reports.swift_words import literal, type_name
from builder.spec.detection_names import THRESHOLDS

_LABELS_SHOWN = 3


def detector_snippet(record: BuildRecord) -> str:
    """Vision scales the picture, runs all stages and gives an observation for each box."""
    name, file = record.artifact.path.stem, record.artifact.path.name
    lines = [
        "import CoreML",
        "import Vision",
        "",
        f"/// Finds objects with {file}.",
        f"/// Add that to the app's target: Xcode compiles it to {name}.mlmodelc.",
        f"@available({system_name(record.request.spec.system.name)}, *)",
        f"struct {type_name(name)} {{",
        "    let model: VNCoreMLModel",
        "",
        "    init(configuration: MLModelConfiguration = MLModelConfiguration()) throws {",
        f'        let url = Bundle.main.url(forResource: {literal(name)}, withExtension: "mlmodelc")!',
        "        model = try VNCoreMLModel(for: MLModel(contentsOf: url, configuration: configuration))",
        "    }",
        "",
        *(f"    {line}".rstrip() for line in _predict(record)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _predict(record: BuildRecord) -> Iterator[str]:
    picture = next(given for given in record.inputs if given["kind"] == "image")
    yield f"/// - Parameter image: any picture: it is scaled to {picture['width']} × {picture['height']}, and the model"
    yield "///   itself normalises it"
    yield "/// - Parameters iouThreshold, confidenceThreshold: instead of those that the model was built with"
    yield "/// - Returns: a box for each object, in shares of the picture from its lower left corner, and in `labels`"
    yield f"///   {_of(record.labels or ())}"
    yield "func predict("
    yield "    image: CGImage, iouThreshold: Double? = nil, confidenceThreshold: Double? = nil"
    yield ") throws -> [VNRecognizedObjectObservation] {"
    iou, confidence = THRESHOLDS
    yield f"    let given = [{literal(iou)}: iouThreshold, {literal(confidence)}: confidenceThreshold]"
    yield "    model.featureProvider = try MLDictionaryFeatureProvider(dictionary: given.compactMapValues { $0 })"
    yield "    let request = VNCoreMLRequest(model: model)"
    yield "    request.imageCropAndScaleOption = .scaleFill"
    yield "    try VNImageRequestHandler(cgImage: image).perform([request])"
    yield "    return request.results as? [VNRecognizedObjectObservation] ?? []"
    yield "}"


def _of(labels: Sequence[str]) -> str:
    shown = ", ".join(literal(label) for label in labels[:_LABELS_SHOWN])
    return f"which of {len(labels)}: {shown}{', …' if len(labels) > _LABELS_SHOWN else ''}"
