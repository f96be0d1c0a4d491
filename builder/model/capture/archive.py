"""Captured programs as files that read back the same, and digests of what they mean."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import pickletools
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from builder.artifacts.stages import CapturedProgram
from builder.errors import UnfitEnvironmentError
from builder.model.detection.suppress import declare_suppression
from builder.model.sources.archives import first_line
from builder.model.sources.exported_archive import load_exported
from builder.model.sources.script_archive import load_script
from builder.store.digests import canonical, file_digest
from builder.store.objects import CorruptError
from builder.util.patient import patient

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.jit import ScriptModule

_MANGLED = re.compile(rb"___torch_mangle_\d+")
"""A number that TorchScript gives to the classes of a process in their order."""

_INCIDENTAL = (".debug_pkl", "/.data/serialization_id", "/traced_inputs.pkl")
"""Parts of an archive that say where code came from, and nothing of what it computes."""

_GRAPH = "/models/model.json"
"""The graph of an exported program."""
_ORIGINS = ("stack_trace", "from_node")

_WRITERS: Mapping[str, Callable[[Any, Path], object]] = {
    "trace": lambda program, file: _write_script(program, file),
    "script": lambda program, file: _write_script(program, file),
    "export": lambda program, file: _write_exported(program, file),
    "onnx": lambda program, file: file.write_bytes(program.model.SerializeToString(deterministic=True)),
}
"""How what each method captures is written; a Core ML model, which is passed on, is loaded again where it is needed."""

_SMALL = 1 << 28
"""Bytes of weights up to which an archive is made in memory; a copy of more would be felt."""


def archived(captured: CapturedProgram, file: Path) -> CapturedProgram | None:
    """Write the archive of a program to `file`, and return what reads back from it, on the weights that are in memory.

    The result is None where it has no archive. Nothing is held twice: a decoder may have gigabytes. Raises
    UnfitEnvironmentError where there is no room: what is converted must not depend on that.
    """
    write = _WRITERS.get(captured.method)
    if write is None:
        return None
    try:
        write(captured.program, file)
        read = read_program(file, captured.method)
    except OSError as error:
        hint = "make room there, or set TMPDIR to another folder"
        raise UnfitEnvironmentError(f"cannot write the captured program: {error}", code="B0706", hint=hint) from error
    except Exception:  # whatever a custom class raises: such a program is converted as it is, and not kept
        return None
    if captured.method in ("trace", "script"):
        _share(read.program, captured.program)
    return read


def _write_script(program: ScriptModule, file: Path) -> None:
    """Write a TorchScript archive. Torch ends the process where it cannot write on, so it only gets files that fit."""
    size = sum(tensor.nbytes for tensor in program.state_dict().values())
    with _deprecated():
        if size > _SMALL:
            if shutil.disk_usage(file.parent).free < size + _SMALL:
                raise OSError(errno.ENOSPC, "no room for the captured program", str(file))
            torch.jit.save(program, str(file))
            return
        stream = io.BytesIO()
        torch.jit.save(program, stream)
    file.write_bytes(stream.getbuffer())


@contextmanager
def _deprecated() -> Iterator[None]:
    """TorchScript is, and it is what coremltools converts best."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _write_exported(program: ExportedProgram, file: Path) -> None:
    with patient(file) as stream:
        torch.export.save(program, stream)


def _share(program: torch.nn.Module, original: torch.nn.Module) -> None:
    """Let the parameters of a program lie where the equal ones of `original` lie, and free their own memory."""
    others = dict(original.named_parameters())  # buffers may be states, of which each program has its own
    for name, tensor in program.named_parameters():
        other = others.get(name)
        if other is not None and other.stride() == tensor.stride() and torch.equal(other, tensor):
            tensor.data = other.data


def restored_program(file: Path, method: str, digest: str) -> CapturedProgram:
    """Return the program of an archive from the store.

    Raises CorruptError where it is not one that a build wrote, or not the one that has `digest`.
    """
    if method not in _WRITERS:
        raise CorruptError(f"there is no program of {method!r}")
    try:
        program = read_program(file, method)
        found = program_digest(file)
    except Exception as error:  # whatever torch raises; the store may be written by others
        raise CorruptError(f"the captured program cannot be read: {first_line(error)}") from error
    if found != digest:
        raise CorruptError("the captured program is another one than the result says")
    return program


def read_program(file: Path, method: str) -> CapturedProgram:
    """Return the program of an archive; raises RefusedArchiveError where it would do more than compute."""
    declare_suppression()  # which the program may call
    if method == "onnx":
        from builder.model.capture.onnx import read_onnx

        return CapturedProgram(program=read_onnx(file.read_bytes()), method=method)
    if method != "export":
        with _deprecated():
            return CapturedProgram(program=load_script(file), method=method)
    with file.open("rb") as stream:
        program = load_exported(stream)
    # Reading makes nodes for results that nobody uses, which coremltools does not know (such as batch norm's second).
    program.graph_module.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return CapturedProgram(program=program, method=method)


def program_digest(file: Path) -> str:
    """`sha256:` over what an archive computes: code, constants and weights, without names that only count."""
    if not zipfile.is_zipfile(file):  # an ONNX graph
        return file_digest(file)
    digest = hashlib.sha256()
    numbers: dict[bytes, bytes] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return numbers.setdefault(found[0], b"#%d" % len(numbers))

    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            inner = "/" + name.partition("/")[2]
            if inner.endswith(_INCIDENTAL) or inner.startswith("/traced_inputs/"):
                continue
            digest.update(_MANGLED.sub(number, inner.encode()) + b"\0")
            content = archive.read(name)
            if inner == _GRAPH:
                content = canonical(_without_traces(json.loads(content))).encode()
            for piece in _pickled(content) if inner.endswith(".pkl") else [content]:
                digest.update(_MANGLED.sub(number, piece) if inner.endswith((".py", ".pkl")) else piece)
    return f"sha256:{digest.hexdigest()}"


def _without_traces(value: object) -> Any:
    """A JSON value without the lines of source that its nodes came from."""
    if isinstance(value, dict):
        return {name: _without_traces(child) for name, child in value.items() if name not in _ORIGINS}
    return [_without_traces(child) for child in value] if isinstance(value, list) else value


def _pickled(data: bytes) -> Iterator[bytes]:
    """The instructions of a pickle with their arguments; nothing is unpickled."""
    for opcode, argument, _ in pickletools.genops(data):
        yield f"{opcode.name} {argument!r}\n".encode()
