"""The Swift for Core AI names this very model's inputs, sizes, states, outputs and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from builder.artifacts import BuildRecord
from builder.reports.swift_coreai import core_ai_snippet
from builder.spec.inputs import State

PICTURE = {"name": "image", "kind": "tensor", "shape": [1, 3, 32, 48], "dtype": "uint8", "color_layout": "BGR"}
SCORES = {"name": "probabilities", "kind": "tensor", "shape": [1, 2], "dtype": "float32"}


def test_a_classifier_of_pictures(make_record: Callable[..., BuildRecord]) -> None:
    snippet = core_ai_snippet(make_record(labels=("a", 'b"'), inputs=(PICTURE,), outputs=(SCORES,)))
    assert 'static let labels = ["a", "b\\""]' in snippet
    assert 'function = try model.loadFunction(named: "main")!' in snippet
    body = snippet[snippet.index("    func predict") : snippet.index("    /// Writes values")]
    assert (
        body
        == """\
    func predict(image: CGImage) async throws -> [Float] {
        var imageArray = NDArray(shape: [1, 3, 32, 48], scalarType: .uint8)
        Self.fill(&imageArray, with: Self.levels(image, 48, 32, channels: [2, 1, 0]))
        var answer = try await function.run(inputs: ["image": imageArray])
        return Self.values(answer.remove("probabilities")!.ndArray!, as: Float.self)
    }

"""
    )
    assert "grays" not in snippet
    assert snippet.count("{") == snippet.count("}")


def test_states_functions_open_sizes_and_names_that_swift_reserves(
    make_record: Callable[..., BuildRecord], record: BuildRecord
) -> None:
    spec = record.request.spec.model_copy(update={"state": {"keys": State(buffer="keys", dtype="float16")}})
    tokens = {"name": "in", "kind": "tensor", "shape": [1, 8], "dtype": "int32", "ranges": [[1, 1], [1, -1]]}
    snippet = core_ai_snippet(
        make_record(
            labels=None,
            request=replace(record.request, spec=spec),
            functions={"decode": {}, "prefill": {}},
            inputs=(tokens,),
            outputs=(SCORES, {"name": "y.1", "kind": "tensor", "shape": [1], "dtype": "int32"}),
        )
    )
    assert 'init(function name: String = "decode") async throws {' in snippet
    assert "/// - Parameter `in`: int32 1 × 8, or of other sizes: 1 × 1 to any" in snippet
    assert 'keys = State.zeros("keys", function, Float16.self)' in snippet
    body = snippet[snippet.index("    func predict") : snippet.index("    /// Writes values")]
    assert (
        body
        == """\
    func predict(`in`: [Int32], inShape: [Int] = [1, 8], state: inout State) async throws -> (probabilities: [Float], y_1: [Int32]) {
        var inArray = NDArray(shape: inShape, scalarType: .int32)
        Self.fill(&inArray, with: `in`)
        var views = InferenceFunction.MutableViews()
        views.insert(&state.keys, for: "keys")
        var answer = try await function.run(inputs: ["in": inArray], states: consume views)
        return (
            Self.values(answer.remove("probabilities")!.ndArray!, as: Float.self),
            Self.values(answer.remove("y.1")!.ndArray!, as: Int32.self)
        )
    }

"""  # noqa: E501 - Swift
    )
    assert "CoreGraphics" not in snippet
    assert snippet.count("{") == snippet.count("}")
