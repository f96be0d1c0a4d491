"""The runtime's copy of the file format is coremltools', and its classes live with those of coremltools."""

from __future__ import annotations

from coreml_runtime.proto import SCHEMA, messages
from tools.write_runtime_schema import schema


def test_the_copy_is_what_the_installed_coremltools_defines() -> None:
    assert SCHEMA.read_bytes() == schema(), "run: python -m tools.write_runtime_schema"


def test_both_read_the_same_bytes() -> None:
    # given a message of coremltools
    from coremltools.proto import Model_pb2

    theirs = Model_pb2.Model(specificationVersion=4)
    theirs.neuralNetwork.layers.add(name="a").activation.ReLU.SetInParent()

    # when ours reads it
    ours = messages("Model_pb2").Model.FromString(theirs.SerializeToString())

    # then it is the same, of a class of its own
    assert ours.neuralNetwork.layers[0].activation.WhichOneof("NonlinearityType") == "ReLU"
    assert ours.SerializeToString() == theirs.SerializeToString()
    assert not isinstance(ours, Model_pb2.Model)
