"""Pictures in a folder, with labels by sub-folder or from a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps, UnidentifiedImageError

from builder.errors import SourceError
from builder.spec.data import FolderData
from builder.util.reading import open_regular
from coreml_runtime.picture_files import opened_picture

HEADER = ["file", "label"]
"""The first line of a CSV file of labels."""


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """A picture that is not opened yet."""

    path: Path
    label: str | None


def list_pictures(data: FolderData, key: str) -> list[LabelledFile]:
    """Return all pictures in the order of their names; raises SourceError where there are none, or one has no label."""
    folder = Path(data.folder)
    if not folder.is_dir():
        raise SourceError(f"{data.folder} is not a folder", code="B0330", key=f"{key}.folder")
    table = None if data.labels in (None, "folders") else Path(str(data.labels))
    names = [name for name in _names_below(folder) if table is None or not (folder / name).samefile(table)]
    if not names:
        raise SourceError(f"there are no pictures in {data.folder}", code="B0330", key=f"{key}.folder")
    if table is not None:
        labels = _read_labels(table, names, f"{key}.labels")
    elif data.labels == "folders":
        labels = _labels_by_folder(folder, names, f"{key}.labels")
    else:
        labels = {}
    return [LabelledFile(path=folder / name, label=labels.get(name)) for name in names]


def open_picture(path: Path, key: str) -> Image.Image:
    """Return a decoded picture, upright; raises SourceError when it is none, or ends too early."""
    try:
        with opened_picture(path) as opened:
            opened.load()
            return ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise SourceError(
            f"{path} is not a picture that can be read",
            code="B0330",
            hint="leave only pictures in the folder, or let the name begin with a dot",
            key=key,
        ) from error
    except Exception as error:  # decoders raise types of their own on damaged files
        raise SourceError(f"{path} is damaged: {error}", code="B0330", key=key) from error


def _names_below(folder: Path) -> list[str]:
    """Every file by its relative name, sorted; hidden ones and those in hidden folders are left out."""
    found = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return sorted(name.as_posix() for name in found if not any(part.startswith(".") for part in name.parts))


def _labels_by_folder(folder: Path, names: list[str], key: str) -> dict[str, str]:
    loose = [name for name in names if len(PurePosixPath(name).parts) == 1]
    if loose:
        raise SourceError(
            f"{folder / loose[0]} lies in no sub-folder, whose name would be its label", code="B0332", key=key
        )
    return {name: PurePosixPath(name).parts[0] for name in names}


def _read_labels(table: Path, names: list[str], key: str) -> Mapping[str, str]:
    """By name of a picture, its label; each picture has one line, and each line a picture."""
    labels: dict[str, str] = {}
    for number, row in enumerate(_rows(table, key), start=1):
        where = f"{table}:{number}"
        if number == 1:
            if [cell.strip() for cell in row] != HEADER:
                raise SourceError(
                    f"{where} must say `{','.join(HEADER)}`, and says `{','.join(row)}`", code="B0332", key=key
                )
            continue
        if not row:
            continue
        if len(row) != len(HEADER) or not row[1].strip():
            raise SourceError(f"{where} must be a file and its label, and is `{','.join(row)}`", code="B0332", key=key)
        name = PurePosixPath(row[0].strip()).as_posix()
        if name not in names:
            raise SourceError(f"{where} names {name}, which is not in the folder", code="B0332", key=key)
        if name in labels:
            raise SourceError(f"{where} names {name} a second time", code="B0332", key=key)
        labels[name] = row[1].strip()
    missing = [name for name in names if name not in labels]
    if missing:
        raise SourceError(f"{missing[0]} has no label in {table} ({len(missing)} have none)", code="B0332", key=key)
    return labels


def _rows(table: Path, key: str) -> list[list[str]]:
    try:
        with open_regular(table) as content, io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read as CSV in UTF-8: {error}", code="B0332", key=key) from error
    return rows or [[]]
