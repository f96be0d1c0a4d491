"""Pipelines: stages wired by name, non-maximum suppression with its limits, the small models around networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coreml_runtime import load
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.proto import messages

FLOAT32, DOUBLE = 65568, 65600


def array(entries: Any, name: str, *shape: int, dtype: int = DOUBLE) -> None:
    entry = entries.add(name=name).type.multiArrayType
    entry.dataType = dtype
    entry.shape.extend(shape)


def save(specification: Any, folder: Path) -> Path:
    path = folder / "model.mlmodel"
    path.write_bytes(specification.SerializeToString())
    return path


def scaler(name_in: str, name_out: str, *, shift: float, scale: float) -> Any:
    specification = messages("Model_pb2").Model(specificationVersion=4)
    array(specification.description.input, name_in, 2)
    array(specification.description.output, name_out, 2)
    specification.scaler.shiftValue.append(shift)
    specification.scaler.scaleValue.append(scale)
    return specification


def suppression(**fields: Any) -> Any:
    specification = messages("Model_pb2").Model(specificationVersion=4)
    for name, width in (("raw_confidence", 2), ("raw_coordinates", 4)):
        array(specification.description.input, name, 4, width)
    for name in ("iou", "confidence_limit"):
        specification.description.input.add(name=name).type.doubleType.SetInParent()
        specification.description.input[-1].type.isOptional = True
    array(specification.description.output, "confidence")
    array(specification.description.output, "coordinates")
    nms = specification.nonMaximumSuppression
    nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName = "raw_confidence", "raw_coordinates"
    nms.iouThresholdInputFeatureName, nms.confidenceThresholdInputFeatureName = "iou", "confidence_limit"
    nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName = "confidence", "coordinates"
    nms.iouThreshold, nms.confidenceThreshold = 0.5, 0.3
    nms.pickTop.perClass = fields.get("per_class", False)
    return specification


BOXES = np.array([[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]])
SCORES = np.array([[0.6, 0.1], [0.1, 0.9], [0.2, 0.25], [0.3, 0.1]])


def test_stages_run_one_after_the_other_on_named_values(tmp_path: Path) -> None:
    # given (x + 1) * 2, then (h + 0) * 10, both results asked for
    specification = messages("Model_pb2").Model(specificationVersion=4)
    specification.pipeline.models.extend(
        [scaler("x", "h", shift=1.0, scale=2.0), scaler("h", "y", shift=0.0, scale=10.0)]
    )
    array(specification.description.input, "x", 2)
    array(specification.description.output, "h", 2)
    array(specification.description.output, "y", 2)
    # when it predicts
    result = load(save(specification, tmp_path)).predict({"x": np.array([0.0, 1.0])})
    # then both are there
    assert result["h"].tolist() == [2.0, 4.0]
    assert result["y"].tolist() == [20.0, 40.0]


def test_suppression_drops_overlaps_and_the_unsure(tmp_path: Path) -> None:
    model = load(save(suppression(), tmp_path))
    inputs = {"raw_confidence": SCORES, "raw_coordinates": BOXES}
    # the first box overlaps the better second one, the third is below the limit of 0.3, the fourth lies on it
    result = model.predict(inputs)
    np.testing.assert_allclose(result["confidence"], SCORES[[1, 3]])
    np.testing.assert_allclose(result["coordinates"], BOXES[[1, 3]])
    # thresholds given at run time replace those of the file
    assert len(model.predict(inputs | {"iou": 1.0})["confidence"]) == 3
    assert len(model.predict(inputs | {"confidence_limit": 0.5})["confidence"]) == 1


def test_suppression_per_class_keeps_overlaps_of_other_classes(tmp_path: Path) -> None:
    result = load(save(suppression(per_class=True), tmp_path)).predict(
        {"raw_confidence": SCORES, "raw_coordinates": BOXES}
    )
    np.testing.assert_allclose(result["coordinates"], BOXES[[1, 0, 3]])


def test_suppression_fills_a_declared_number_of_boxes_with_zeros(tmp_path: Path) -> None:
    specification = suppression()
    specification.description.output[0].type.multiArrayType.shape.extend([3, 2])
    result = load(save(specification, tmp_path)).predict({"raw_confidence": SCORES, "raw_coordinates": BOXES})
    assert result["confidence"].shape == (3, 2)
    assert result["confidence"][2].tolist() == [0.0, 0.0]
    assert result["coordinates"].shape == (3, 4)


def test_a_pipeline_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    specification = messages("Model_pb2").Model(specificationVersion=4)
    specification.pipeline.models.append(scaler("elsewhere", "y", shift=0.0, scale=1.0))
    array(specification.description.input, "x", 2)
    array(specification.description.output, "z", 2)
    with pytest.raises(ModelError, match=r"stage 0 reads 'elsewhere'.*no stage gives the output 'z'"):
        load(save(specification, tmp_path))


def test_all_that_the_stages_lack_is_named_at_once(tmp_path: Path) -> None:
    specification = messages("Model_pb2").Model(specificationVersion=4)
    for name in ("wordTagger", "gazetteer"):
        stage = specification.pipeline.models.add()
        getattr(stage, name).SetInParent()
    with pytest.raises(UnsupportedError, match=r"stage 0: .*wordTagger.*stage 1: .*gazetteer"):
        load(save(specification, tmp_path))


def test_a_classifier_scales_its_image_and_names_its_class(tmp_path: Path) -> None:
    # given a network that takes a BGR picture, scales it, and reads the class off the pixel's channels
    specification = messages("Model_pb2").Model(specificationVersion=4)
    image = specification.description.input.add(name="image").type.imageType
    image.width = image.height = 1
    image.colorSpace = 30
    specification.description.output.add(name="scores").type.dictionaryType.stringKeyType.SetInParent()
    specification.description.output.add(name="label").type.stringType.SetInParent()
    specification.description.predictedFeatureName = "label"
    specification.description.predictedProbabilitiesName = "scores"
    network = specification.neuralNetworkClassifier
    network.imageInputShapeMapping = network.arrayInputShapeMapping = 1
    network.stringClassLabels.vector.extend(["blue", "green", "red"])
    network.labelProbabilityLayerName = "out"
    scaling = network.preprocessing.add(featureName="image").scaler
    scaling.channelScale, scaling.blueBias, scaling.greenBias, scaling.redBias = 0.5, 1.0, 2.0, 3.0
    network.layers.add(name="flat", input=["image"], output=["out"]).flatten.SetInParent()
    # when it sees a mostly green pixel
    result = load(save(specification, tmp_path)).predict({"image": Image.new("RGB", (1, 1), (10, 200, 30))})
    # then scale and bias went to the right channels
    assert result["label"] == "green"
    assert result["scores"] == {"blue": 16.0, "green": 102.0, "red": 8.0}


def test_a_linear_classifier_turns_its_score_into_two_probabilities(tmp_path: Path) -> None:
    specification = messages("Model_pb2").Model(specificationVersion=4)
    array(specification.description.input, "x", 2)
    specification.description.output.add(name="label").type.int64Type.SetInParent()
    specification.description.output.add(name="p").type.dictionaryType.int64KeyType.SetInParent()
    specification.description.predictedFeatureName, specification.description.predictedProbabilitiesName = "label", "p"
    specification.glmClassifier.weights.add().value.extend([1.0, 2.0])
    specification.glmClassifier.offset.append(-3.0)
    specification.glmClassifier.int64ClassLabels.vector.extend([0, 1])
    result = load(save(specification, tmp_path)).predict({"x": np.array([1.0, 2.0])})
    assert result["label"] == 1
    assert result["p"][1] == pytest.approx(1 / (1 + np.exp(-2.0)))
