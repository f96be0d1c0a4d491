"""Files of data that would block, or are damaged: refused with words, whatever their readers raise."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from builder.data.folder import list_pictures, open_picture
from builder.data.tensors import read_arrays
from builder.errors import SourceError
from builder.model.labels import _lines
from builder.spec.data import FolderData, TensorsData


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_arrays_that_are_no_file(name: str, kind: str, tmp_path: Path) -> None:
    place = tmp_path / name
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](place)
    with pytest.raises(SourceError, match="damaged"):
        read_arrays(TensorsData(kind="tensors", file=str(place)), {"x": None}, "data")


def test_an_archive_of_a_kind_that_zipfile_does_not_know(tmp_path: Path) -> None:
    # given an archive that asks for version 10.9 of the format, which zipfile answers by NotImplementedError
    stream = io.BytesIO()
    np.savez(stream, x=np.ones((3, 8), np.float32))
    content = bytearray(stream.getvalue())
    content[content.index(b"PK\x01\x02") + 6] = 109
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(SourceError, match="zip file version"):
        read_arrays(TensorsData(kind="tensors", file=str(tmp_path / "a.npz")), {"x": None}, "data")


def test_labels_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(b"x")
    os.mkfifo(tmp_path / "labels.csv")
    data = FolderData(kind="folder", folder=str(tmp_path / "pictures"), labels=str(tmp_path / "labels.csv"))
    with pytest.raises(SourceError, match="is not a regular file"):
        list_pictures(data, "data")
    with pytest.raises(SourceError, match="cannot be read: is not a regular file"):
        _lines(tmp_path / "labels.csv", "classifier.labels")


def test_lines_of_labels_end_as_any_system_ends_them(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffant\r\nbee\rcat\n".encode())
    assert _lines(tmp_path / "labels.txt", "classifier.labels") == ["ant", "bee", "cat"]


def test_a_picture_is_none_that_a_program_would_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(SourceError, match="is not a picture that can be read"):
        open_picture(tmp_path / "a.png", "data")
