"""Joins programs that were converted on their own to one with several functions and one copy of every weight.

Given   prefill.main and decode.main, each with a weight file of its own
Result  one program with functions prefill and decode, and a weight file in which equal records stand once

`coremltools.utils.save_multifunction` does the same by way of MIL programs in memory: it infers every type and value
anew, and holds all weights. Here nothing of a program changes but where its weights lie.
"""

from __future__ import annotations

import hashlib
import mmap
import shutil
import struct
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coremltools.models import MLModel
    from google.protobuf.message import Message

MAIN = "main"
"""The function of a program that was converted on its own."""

_PLACE = "@model_path/weights/"
_FILE = "weight.bin"
_ALIGNMENT = 64
_HEADER = struct.Struct("<II56x")
"""The number of records, and the version of the format."""
_VERSION = 2
_RECORD = struct.Struct("<IIQQQ32x")
"""A sentinel, the data type, the size in bytes, the offset of the data, and the padding of the last byte in bits."""
_SENTINEL = 0xDEADBEEF


class JoinedModel:
    """What the seal stage takes of a model of coremltools; its weights live as long as it does."""

    def __init__(self, specification: Message, folder: Path) -> None:
        self._spec = specification
        self.weights_dir = str(folder)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def join_functions(models: Mapping[str, object]) -> JoinedModel:
    """Return models of coremltools as one, each a function under its name; the first is the default."""
    folder = Path(tempfile.mkdtemp(prefix="builder-joined-"))
    try:
        with (folder / _FILE).open("wb") as stream:
            weights = WeightFile(stream)
            specification = _joined(models, weights)
            weights.finish()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return JoinedModel(specification, folder)


def _joined(models: Mapping[str, MLModel], weights: WeightFile) -> Message:
    first = next(iter(models.values()))._spec
    specification = type(first)()
    specification.specificationVersion = max(model._spec.specificationVersion for model in models.values())
    specification.description.metadata.CopyFrom(first.description.metadata)
    specification.description.defaultFunctionName = next(iter(models))
    specification.mlProgram.version = first.mlProgram.version
    for name, model in models.items():
        described = specification.description.functions.add(name=name)
        described.input.MergeFrom(model._spec.description.input)
        described.output.MergeFrom(model._spec.description.output)
        described.state.MergeFrom(model._spec.description.state)
        function = specification.mlProgram.functions[name]
        function.CopyFrom(model._spec.mlProgram.functions[MAIN])
        with _mapped(model) as files:
            for stored in _stored_values(function.block_specializations.values()):
                stored.offset = weights.add(files[stored.fileName], stored.offset)
                stored.fileName = f"{_PLACE}{_FILE}"
    return specification


@contextmanager
def _mapped(model: MLModel) -> Iterator[Mapping[str, mmap.mmap]]:
    """The weight files of a model in memory, by the names under which its program knows them."""
    with ExitStack() as opened:
        files: dict[str, mmap.mmap] = {}
        for path in sorted(Path(model.weights_dir).iterdir()) if model.weights_dir else ():
            stream = opened.enter_context(path.open("rb"))
            files[f"{_PLACE}{path.name}"] = opened.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        yield files


def _stored_values(blocks: Iterable[Message]) -> Iterator[Message]:
    """Every reference to the weight file, in the order of the program."""
    for block in blocks:
        for operation in block.operations:
            given = (a.value for v in operation.inputs.values() for a in v.arguments if a.HasField("value"))
            for value in (*operation.attributes.values(), *given):
                if value.WhichOneof("value") == "blobFileValue":
                    yield value.blobFileValue
            yield from _stored_values(operation.blocks)


class WeightFile:
    """A weight file that is written record by record; what is in it already is not written again."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end = _HEADER.size
        self._offsets: dict[tuple[int, int, int, bytes], int] = {}

    def add(self, source: mmap.mmap, offset: int) -> int:
        """Copy the record at `offset` of a mapped file; return where it is in this one."""
        sentinel, code, size, start, padding = _RECORD.unpack_from(source, offset)
        assert sentinel == _SENTINEL, f"coremltools wrote no record at {offset}"
        with memoryview(source) as whole, whole[start : start + size] as data:
            key = (code, size, padding, hashlib.sha256(data).digest())
            if key not in self._offsets:
                self._offsets[key] = self._end
                self._stream.seek(self._end)
                self._stream.write(_RECORD.pack(_SENTINEL, code, size, self._end + _RECORD.size, padding))
                self._stream.write(data)
                self._end = -(-self._stream.tell() // _ALIGNMENT) * _ALIGNMENT
        return self._offsets[key]

    def finish(self) -> None:
        """Write the header; the file is whole then."""
        self._stream.seek(0)
        self._stream.write(_HEADER.pack(len(self._offsets), _VERSION))
