"""What torchscript and exported_program share: telling files apart, and their inputs from a recipe's."""

from __future__ import annotations

import zipfile
from pathlib import Path

from builder.errors import SourceError

CHECKPOINT, TORCHSCRIPT, EXPORTED = "checkpoint", "torchscript", "exported_program"
"""The kinds of source that a file written by torch can be."""
PACKAGE = "torch_package"
"""What torch writes too, and no kind of source."""

_ZIP_START = b"PK\x03\x04"
_ZIP_END = b"PK\x05\x06"
"""Begins the last 22 bytes of an archive without a comment; torch writes none."""

_SAID = {
    CHECKPOINT: "a checkpoint of torch.save (a state dict or a pickled module)",
    TORCHSCRIPT: "a TorchScript archive",
    EXPORTED: "an exported program (torch.export.save)",
    PACKAGE: "a package of torch.package, which is code with its weights",
}


def check_kind(path: Path, wanted: str) -> None:
    """Raise SourceError unless `path` looks like a file of the kind `wanted`, naming what it is instead."""
    found = _kind(path)
    if found == wanted:
        return
    if found is None:
        what = "is empty" if path.stat().st_size == 0 else f"is not {_SAID[wanted]}, or is damaged"
        raise SourceError(f"{path} {what}", code="B0303", hint="copy or export it again", key="source.file")
    if found == PACKAGE:
        raise package_error(path)
    raise SourceError(
        f"{path} is {_SAID[found]}, not {_SAID[wanted]}",
        code="B0303",
        hint=f"write `kind: {found}`" + (" with a `factory`" if found == CHECKPOINT else ""),
        key="source.kind",
    )


def package_error(path: Path) -> SourceError:
    """What is said of a package of torch.package."""
    return SourceError(
        f"{path} is {_SAID[PACKAGE]}",
        code="B0303",
        hint="load it in a factory of your own (`kind: python`) as its author does, "
        "`torch.package.PackageImporter(file).load_pickle(…)`, and return the module that takes arrays",
        key="source.file",
    )


def is_package(path: Path) -> bool:
    """Whether a file is such a package; what cannot be read is none."""
    try:
        return _kind(path) == PACKAGE
    except SourceError:
        return False


def is_of_torch(path: Path) -> bool:
    """Whether a file of any suffix begins as one that torch writes."""
    with path.open("rb") as file:
        start = file.read(len(_ZIP_START))
    return start[:1] == b"\x80" or (start == _ZIP_START and _kind(path) is not None)


def _kind(path: Path) -> str | None:
    """The kind of a file, or None when it is none that torch writes."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(-min(path.stat().st_size, len(_ZIP_END) + 18), 2)
            end = file.read()
        if start[:1] == b"\x80" or path.suffix == ".safetensors":
            return CHECKPOINT
        if not end.startswith(_ZIP_END):  # of a file that is cut, zipfile finds an archive inside the archive
            return None
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be read: {error}", code="B0301", key="source.file") from error
    if "extern_modules" in names:
        return PACKAGE
    if "constants.pkl" in names:
        return TORCHSCRIPT
    if any(name in names for name in ("serialized_exported_program.json", "model.json")):
        return EXPORTED
    return CHECKPOINT if "data.pkl" in names else None


def check_count(path: Path, own: tuple[str, ...], given: tuple[str, ...], *, required: int) -> None:
    """Raise SourceError unless the program takes as many inputs as the recipe gives."""
    if not required <= len(given) <= len(own):
        raise SourceError(
            f"{path} takes {len(own)} input(s) ({', '.join(own)}), and the recipe gives {len(given)} "
            f"({', '.join(given)})",
            code="B0315",
            hint="name every input, in the order in which the program takes them, or by its own names",
            key="input",
        )
