"""The Swift snippet names this very model's inputs, sizes, outputs and labels."""

from __future__ import annotations

from collections.abc import Callable

from builder.artifacts import BuildRecord
from builder.reports.swift import swift_snippet


def test_classifier_of_images(record: BuildRecord) -> None:
    assert (
        swift_snippet(record)
        == """\
import CoreGraphics
import CoreML
import CoreVideo

// Add mobilenet_v2_fp16.mlpackage to the app's target: Xcode compiles it to mobilenet_v2_fp16.mlmodelc.
let url = Bundle.main.url(forResource: "mobilenet_v2_fp16", withExtension: "mlmodelc")!
let model = try MLModel(contentsOf: url)

func predict(image: CGImage) throws -> (classLabel: String, classLabel_probs: [String: Double]) {
    let inputs = try MLDictionaryFeatureProvider(dictionary: [
        // scaled to 224 × 224; the model itself sees RGB and normalises
        "image": MLFeatureValue(
            cgImage: image, pixelsWide: 224, pixelsHigh: 224,
            pixelFormatType: kCVPixelFormatType_32BGRA, options: nil),
    ])
    let outputs = try model.prediction(from: inputs)
    // 3 labels: "tabby", "golden retriever", "espresso"
    return (
        outputs.featureValue(for: "classLabel")!.stringValue,
        outputs.featureValue(for: "classLabel_probs")!.dictionaryValue as! [String: Double]
    )
}
"""
    )


def test_arrays_with_names_that_swift_reserves(make_record: Callable[..., BuildRecord]) -> None:
    snippet = swift_snippet(
        make_record(
            labels=None,
            inputs=({"name": "in", "kind": "tensor", "shape": [1, 77], "dtype": "int32"},),
            outputs=({"name": "var_12", "kind": "tensor", "shape": [1, 512], "dtype": "float16"},),
        )
    )

    assert "func predict(`in`: MLMultiArray) throws -> MLMultiArray {" in snippet
    assert '"in": MLFeatureValue(multiArray: `in`),  // MLMultiArray(shape: [1, 77], dataType: .int32)' in snippet
    assert 'return outputs.featureValue(for: "var_12")!.multiArrayValue!' in snippet
    assert "CoreGraphics" not in snippet
    assert "labels" not in snippet
