"""Core ML's file format as protobuf classes, from `schema.binpb`: the definition that Apple publishes in coremltools.

The classes are in a descriptor pool of their own. So they do not depend on whether coremltools is installed, in which
version, or imported; its classes for the same messages are others.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

SCHEMA = Path(__file__).with_name("schema.binpb")


@cache
def messages(name: str) -> SimpleNamespace:
    """The message classes of one file of the format: "Model_pb2", "MIL_pb2", "NeuralNetwork_pb2" or another."""
    from google.protobuf.message_factory import GetMessageClass

    file = _pool().FindFileByName(f"{name.removesuffix('_pb2')}.proto")
    return SimpleNamespace(
        **{message: GetMessageClass(descriptor) for message, descriptor in file.message_types_by_name.items()}
    )


@cache
def _pool() -> DescriptorPool:
    """A pool that holds the format and nothing else."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(SCHEMA.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
