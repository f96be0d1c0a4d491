"""Models written message by message, so that these tests need the runtime, pytest, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_runtime.proto import messages

FLOAT32, FLOAT_TENSOR = 65568, 11
WEIGHTS = np.linspace(-1, 1, 36, dtype=np.float32).reshape(3, 12)
"""Of the classifier: (classes, channels x height x width), for pictures of 2 x 2."""
LABELS = ("cat", "dog", "bird")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A neural network as `.mlmodel`: a picture of 2 x 2, levels divided by 255, one linear layer and a softmax."""
    model = messages("Model_pb2").Model(specificationVersion=4)
    image = model.description.input.add(name="image").type.imageType
    image.width, image.height, image.colorSpace = 2, 2, 20
    model.description.output.add(name="label").type.stringType.SetInParent()
    model.description.output.add(name="shares").type.dictionaryType.stringKeyType.SetInParent()
    model.description.predictedFeatureName, model.description.predictedProbabilitiesName = "label", "shares"
    network = model.neuralNetworkClassifier
    network.preprocessing.add(featureName="image").scaler.channelScale = 1 / 255
    linear = network.layers.add(name="linear", input=["image"], output=["scores"]).innerProduct
    linear.inputChannels, linear.outputChannels = 12, 3
    linear.weights.floatValue.extend(WEIGHTS.reshape(-1).tolist())
    network.layers.add(name="softmax", input=["scores"], output=["shares"]).softmax.SetInParent()
    network.stringClassLabels.vector.extend(LABELS)
    network.labelProbabilityLayerName = "shares"
    path = tmp_path / "classifier.mlmodel"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An ML program as `.mlpackage`: y = relu(x + x), arrays of (1, 3)."""
    model = messages("Model_pb2").Model(specificationVersion=7)
    for features, name in ((model.description.input, "x"), (model.description.output, "y")):
        array = features.add(name=name).type.multiArrayType
        array.dataType = FLOAT32
        array.shape.extend([1, 3])
    function = model.mlProgram.functions["main"]
    _typed(function.inputs.add(name="x").type)
    function.opset = "CoreML6"
    block = function.block_specializations["CoreML6"]
    block.outputs.append("y")
    _operation(block, "add", {"x": "x", "y": "x"}, "sum")
    _operation(block, "relu", {"x": "sum"}, "y")
    model.mlProgram.version = 1
    package = tmp_path / "program.mlpackage"
    (package / "Data" / "com.apple.CoreML").mkdir(parents=True)
    (package / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(model.SerializeToString())
    manifest = '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "com.apple.CoreML/model.mlmodel"}}}'
    (package / "Manifest.json").write_text(manifest)
    return package


def _typed(value_type: Any) -> None:
    value_type.tensorType.dataType, value_type.tensorType.rank = FLOAT_TENSOR, 2
    for size in (1, 3):
        value_type.tensorType.dimensions.add().constant.size = size


def _operation(block: Any, kind: str, inputs: dict[str, str], output: str) -> None:
    operation = block.operations.add(type=kind)
    for name, value in inputs.items():
        operation.inputs[name].arguments.add(name=value)
    _typed(operation.outputs.add(name=output).type)
