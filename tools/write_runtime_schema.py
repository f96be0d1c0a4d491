"""Writes the runtime's copy of Core ML's file format from coremltools: `python -m tools.write_runtime_schema`.

One serialized `google.protobuf.FileDescriptorSet`, sorted so that every file comes after those that it imports, without
comments. A test compares it with the installed coremltools, so that an upgrade says that the format has changed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "runtime" / "coreml_runtime" / "schema.binpb"


def schema() -> bytes:
    """The descriptors of Core ML's files, serialized."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    files: dict[str, Any] = {}

    def add(descriptor: Any) -> None:
        for dependency in descriptor.dependencies:
            add(dependency)
        files.setdefault(descriptor.name, descriptor)

    add(importlib.import_module("coremltools.proto.Model_pb2").DESCRIPTOR)
    found = FileDescriptorSet()
    for descriptor in files.values():
        proto = FileDescriptorProto()
        descriptor.CopyToProto(proto)
        found.file.append(proto)
    return bytes(found.SerializeToString(deterministic=True))


if __name__ == "__main__":
    TARGET.write_bytes(schema())
