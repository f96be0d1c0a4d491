"""The Swift snippet names this very model's inputs, sizes, outputs and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from builder.artifacts import BuildRecord
from builder.reports.swift import swift_snippet
from builder.spec.inputs import State


def test_classifier_of_images(record: BuildRecord) -> None:
    assert (
        swift_snippet(record)
        == """\
import CoreGraphics
import CoreML
import CoreVideo

/// Calls mobilenet_v2_fp16.mlpackage.
/// Add that to the app's target: Xcode compiles it to mobilenet_v2_fp16.mlmodelc.
@available(iOS 16, *)
struct MobilenetV2Fp16Predictor {
    let model: MLModel

    init(configuration: MLModelConfiguration = MLModelConfiguration()) throws {
        let url = Bundle.main.url(forResource: "mobilenet_v2_fp16", withExtension: "mlmodelc")!
        model = try MLModel(contentsOf: url, configuration: configuration)
    }

    /// - Parameter image: any picture: it is scaled to 224 × 224, and the model itself normalises it
    /// - Returns classLabel: the best of 3 labels: "tabby", "golden retriever", "espresso"
    /// - Returns classLabel_probs: the probability of each label
    func predict(image: CGImage) throws -> (classLabel: String, classLabel_probs: [String: Double]) {
        let features = try MLDictionaryFeatureProvider(dictionary: [
            "image": try MLFeatureValue(
                cgImage: image, pixelsWide: 224, pixelsHigh: 224,
                pixelFormatType: kCVPixelFormatType_32BGRA, options: nil),
        ])
        let answer = try self.model.prediction(from: features)
        return (
            answer.featureValue(for: "classLabel")!.stringValue,
            answer.featureValue(for: "classLabel_probs")!.dictionaryValue as! [String: Double]
        )
    }
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
    assert "/// - Parameter `in`: `MLMultiArray(shape: [1, 77], dataType: .int32)`" in snippet
    assert '"in": MLFeatureValue(multiArray: `in`),' in snippet
    assert 'return answer.featureValue(for: "var_12")!.multiArrayValue!' in snippet
    assert "CoreGraphics" not in snippet
    assert "labels" not in snippet


def test_flexible_sizes_defaults_and_names_that_the_snippet_needs_itself(
    make_record: Callable[..., BuildRecord],
) -> None:
    snippet = swift_snippet(
        make_record(
            labels=None,
            inputs=(
                {"name": "features", "kind": "tensor", "shape": [1, 8], "dtype": "float16",
                 "ranges": [[1, 1], [1, 64]]},
                {"name": "mask", "kind": "tensor", "shape": [1], "dtype": "float32", "optional": True,
                 "default_value": 1.0},
            ),
            outputs=({"name": "y", "kind": "tensor", "shape": [1, 8], "dtype": "float32"},),
        )
    )  # fmt: skip

    assert "features: `MLMultiArray(shape: [1, 8], dataType: .float16)`, or of other sizes: 1 × 1 to 64" in snippet
    assert "func predict(features: MLMultiArray, mask: MLMultiArray? = nil) throws -> MLMultiArray {" in snippet
    assert 'if let mask = mask { given["mask"] = MLFeatureValue(multiArray: mask) }' in snippet
    assert "let features_ = try MLDictionaryFeatureProvider(dictionary: given)" in snippet


def test_states_are_passed_on(make_record: Callable[..., BuildRecord], record: BuildRecord) -> None:
    spec = record.request.spec.model_copy(update={"state": {"cache": State(buffer="cache")}})

    snippet = swift_snippet(make_record(request=replace(record.request, spec=spec)))

    assert "func predict(image: CGImage, state: MLState) throws" in snippet
    assert "try self.model.prediction(from: features, using: state)" in snippet


@pytest.mark.parametrize(("label", "literal"), [('a"b\\c', r'"a\"b\\c"'), ("tab\tbell\x07", r'"tab\tbell\u{7}"')])
def test_labels_are_swift_literals(make_record: Callable[..., BuildRecord], label: str, literal: str) -> None:
    assert f"1 labels: {literal}" in swift_snippet(make_record(labels=(label,)))
