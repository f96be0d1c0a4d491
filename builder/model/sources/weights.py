"""Read a file of weights: safetensors, or what `torch.save` wrote, without running code that it may contain."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from builder.errors import SourceError
from builder.model.sources.download import OfflineError, fetch, file_digest
from builder.util.suggest import did_you_mean

__all__ = ["OfflineError", "fetch", "file_digest", "read_checkpoint", "read_state_dict", "state_dict_in"]

_REFUSED = re.compile(r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>")
"""Where torch's weights-only unpickler says which class or function it refuses."""
_DATA = (argparse.Namespace,)
"""Classes of checkpoints that are attributes and nothing else: timm's and many other scripts save their arguments."""
_ZIP, _PICKLE = b"PK", b"\x80"


def read_state_dict(
    path: Path, *, trust_pickle: bool, state_dict_key: str | None = None, strip_prefix: str = ""
) -> Mapping[str, Tensor]:
    """Return the file's tensors by name, on the CPU.

    Raises SourceError where `read_checkpoint` and `state_dict_in` do.
    """
    content = read_checkpoint(path, trust_pickle=trust_pickle)
    return state_dict_in(content, path, state_dict_key=state_dict_key, strip_prefix=strip_prefix)


def state_dict_in(
    content: object, path: Path | str, *, state_dict_key: str | None = None, strip_prefix: str = ""
) -> Mapping[str, Tensor]:
    """Return the tensors by name that a checkpoint holds under `state_dict_key` (dots descend), without the prefix.

    Raises SourceError where there is no such entry, no such prefix, or anything but tensors by name.
    """
    for part in state_dict_key.split(".") if state_dict_key is not None else ():
        if not isinstance(content, Mapping) or part not in content:
            names = list(map(str, content)) if isinstance(content, Mapping) else []
            raise SourceError(
                f"{path} has no entry {state_dict_key}; it has {', '.join(names[:8]) or 'none'}",
                code="B0311",
                hint=did_you_mean(part, names),
                key="source.state_dict_key",
            )
        content = content[part]
    if isinstance(content, torch.nn.Module):
        content = content.state_dict()
    if not _holds_tensors(content):
        nested = [str(name) for name, value in content.items() if _holds_tensors(value)] if _is_dict(content) else []
        raise SourceError(
            f"{path} is not a state dict, names with tensors: {_unlike_state_dict(content)}",
            code="B0303",
            hint=f"write `state_dict_key: {nested[0]}` under source" if nested else None,
            key="source.file",
        )
    if strip_prefix and not any(str(name).startswith(strip_prefix) for name in content):
        raise SourceError(
            f"no key of {path} begins with `{strip_prefix}`; the first is {next(iter(content))}",
            code="B0311",
            key="source.strip_prefix",
        )
    state = OrderedDict((str(name).removeprefix(strip_prefix), value) for name, value in content.items())
    versions = getattr(content, "_metadata", None) or {}
    # torch asks for the versions of modules, to read what older ones saved
    state._metadata = {k.removeprefix(strip_prefix): v for k, v in versions.items()}  # type: ignore[attr-defined]
    return state


def _is_dict(content: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(content, Mapping)


def _holds_tensors(content: object) -> TypeGuard[Mapping[object, Tensor]]:
    return _is_dict(content) and bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _unlike_state_dict(content: object) -> str:
    """What a content that is not a state dict is instead."""
    if not _is_dict(content) or not content:
        return f"it is {_described(content)}"
    name, value = next((name, value) for name, value in content.items() if not isinstance(value, Tensor))
    return f"{name} is {_described(value)}"


def read_checkpoint(path: Path, *, trust_pickle: bool) -> Any:
    """Return what the file holds, on the CPU: a dict of tensors, a nested training state, or a whole module.

    Unless `trust_pickle`, nothing but tensors, plain containers and `argparse.Namespace` is unpickled. Raises
    SourceError when the file is missing, empty, damaged, of another kind, or needs a class that was not allowed or
    cannot be found.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {path}", code="B0301") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}", code="B0301") from error
    if size == 0:
        raise SourceError(f"{path} is empty", code="B0302")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    _refuse_other_kinds(path, start)
    return _read_torch(path, trust_pickle=trust_pickle, mapped=start.startswith(_ZIP) and not trust_pickle)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise SourceError(f"{path} is damaged, or not a safetensors file: {error}", code="B0302") from error
    return tensors


def _refuse_other_kinds(path: Path, start: bytes) -> None:
    """Name what the file is when `torch.load` would only say that something is wrong."""
    if start.startswith(b"version https://git-lfs"):
        raise SourceError(
            f"{path} is a pointer of Git LFS, not the file itself", code="B0303", hint="run `git lfs pull`"
        )
    if start.lstrip()[:1] == b"<":
        raise SourceError(f"{path} is a web page, not a checkpoint", code="B0303", hint="download it again")
    if start.startswith(_ZIP):
        if not zipfile.is_zipfile(path):
            raise SourceError(f"{path} is damaged: its end is missing", code="B0302", hint="copy or download it again")
        _refuse_programs(path)
    elif not start.startswith(_PICKLE):
        raise SourceError(
            f"{path} is not a checkpoint: neither `torch.save` nor safetensors writes such a file", code="B0303"
        )


def _refuse_programs(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:  # the last of a version that is not known
        raise SourceError(f"{path} is damaged: {error}", code="B0302", hint="copy or download it again") from error
    if "constants.pkl" in names:
        raise SourceError(
            f"{path} is a TorchScript archive, a program and not a checkpoint",
            code="B0303",
            hint="save its weights: torch.save(torch.jit.load(path).state_dict(), 'weights.pth')",
        )
    if "models/model.json" in names or "serialized_exported_program.json" in names:
        raise SourceError(
            f"{path} is an exported program (torch.export), not a checkpoint",
            code="B0303",
            hint="save its weights: torch.save(torch.export.load(path).state_dict, 'weights.pth')",
        )
    if "data.pkl" not in names:
        raise SourceError(f"{path} is a ZIP archive that torch.save did not write", code="B0303")


def _read_torch(path: Path, *, trust_pickle: bool, mapped: bool) -> Any:
    try:
        with torch.serialization.safe_globals(list(_DATA)):
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle, mmap=mapped)
    except pickle.UnpicklingError as error:
        if not trust_pickle and (refused := _REFUSED.search(str(error))):
            name = refused[1] or refused[2]
            raise SourceError(
                f"{path} holds a Python object of {name}, which is not unpickled because it can run code",
                code="B0304",
                hint="if you trust the file, write `trust_pickle: true` under a source of `kind: checkpoint`; "
                "or save the weights alone: torch.save(model.state_dict(), 'weights.pth')",
            ) from error
        raise SourceError(
            f"{path} is damaged: {_first_line(error)}", code="B0302", hint="copy or download it again"
        ) from error
    except (ImportError, AttributeError) as error:
        raise SourceError(
            f"{path} was pickled with a class that is not found: {error}",
            code="B0304",
            hint="install its package, or run from the folder of its module; a state dict needs neither",
        ) from error
    except Exception as error:  # unpickling runs whatever the file holds, so anything can be raised
        raise SourceError(
            f"{path} cannot be read: {type(error).__name__}: {_first_line(error)}",
            code="B0302",
            hint="copy or download it again",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "it ends too early").splitlines()[0]


def _described(content: object) -> str:
    if isinstance(content, Mapping):
        return "an empty dict" if not content else f"a dict of {len(content)} entries"
    name = type(content).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
