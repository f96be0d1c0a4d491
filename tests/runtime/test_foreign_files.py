"""Arrays, pictures and metadata that others made: one error for all that is damaged, no pickle, no program, no bomb."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from builder.util import npz
from builder.util.npz import read_npz
from coreml_runtime import load
from coreml_runtime.arrays import read_npy
from coreml_runtime.errors import InputError
from coreml_runtime.files import read_inputs
from coreml_runtime.picture_files import opened_picture
from coreml_runtime.pictures import color_layout, known_inputs
from coreml_runtime.shown import labelled

SAMPLE = Path(__file__).parent / "coreai/data/sample.aimodel"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def saved(**named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **named)  # type: ignore[arg-type]  # names of ours
    return stream.getvalue()


def test_arrays_are_what_numpy_has_written() -> None:
    stream, given_ = io.BytesIO(), {"x": np.arange(6.0).reshape(2, 3), "y/1": np.array(["a", "b"]), "z": np.array(5)}
    np.save(stream, given_["x"])
    stream.seek(0)
    assert np.array_equal(read_npy(stream), given_["x"])
    found = read_npz(io.BytesIO(saved(**given_)))
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in given_.items()}


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    objects = np.array([Canary(tmp_path / "mark")], dtype=object)
    stream = io.BytesIO()
    np.save(stream, objects, allow_pickle=True)
    for content, read in ((stream.getvalue(), read_npy), (saved(x=objects), read_npz)):
        with pytest.raises(ValueError, match="whole"):
            read(io.BytesIO(content))
    assert not (tmp_path / "mark").exists()
    np.load(io.BytesIO(stream.getvalue()), allow_pickle=True)  # it would have left its mark
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "header", [b"(" * 2000, b"{'descr': ", b"{'descr': '<f4', 'shape': (10**9,)}", b"\xff" * 60, b""]
)
def test_any_header_is_one_error(header: bytes) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64
    with pytest.raises(ValueError, match=r"not a whole \.npy"):
        read_npy(io.BytesIO(content))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_any_byte_is_one_error_or_an_array(at: float, byte: int, cut: bool) -> None:
    content = bytearray(saved(x=np.ones((3, 8), np.float32)))
    place = int(at * len(content))
    content[place] = byte
    try:
        read_npz(io.BytesIO(bytes(content[:place] if cut else content)))
    except ValueError:
        return


def test_an_archive_that_unfolds_far_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(x=np.zeros(200_000))
    assert read_npz(io.BytesIO(content))["x"].size == 200_000
    monkeypatch.setattr(npz, "_LARGE", 100_000)
    with pytest.raises(ValueError, match="say that they have"):
        read_npz(io.BytesIO(content))


def asset(folder: Path, own: object) -> Path:
    """The sample, whose maker wrote down `own`."""
    place = folder / "sample.aimodel"
    shutil.copytree(SAMPLE, place)
    metadata = json.loads((place / "metadata.json").read_text())
    (place / "metadata.json").write_text(json.dumps({**metadata, "creatorDefinedMetadata": own}))
    return place


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a Ghostscript that leaves a mark, and a picture that Pillow hands to it, whatever its name says
    programs, picture = tmp_path / "programs", tmp_path / "cat.png"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    picture.write_bytes(EPS)
    # when it is given as an input, then it is refused
    model = load(asset(tmp_path, {"inputs": {"image": {"color_layout": "RGB"}}}))
    with pytest.raises(InputError, match="not the content of a PNG"):
        read_inputs(model, {"image": str(picture), "flag": "1"})
    assert not (tmp_path / "mark").exists()
    # and Pillow alone would have started the program
    with Image.open(picture) as opened, contextlib.suppress(OSError, AttributeError):  # the program gives no picture
        opened.load()
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "JPEG2000"])
def test_pictures_of_usual_kinds_are_read(kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(stream, kind)
    with opened_picture(stream) as opened:
        assert (opened.size, opened.format) == ((9, 7), kind)


HOSTILE = [
    None, 5, "x", [], {"functions": 5}, {"functions": [1]}, {"functions": {"main": 5}}, {"inputs": "x"},
    {"functions": {"main": {"inputs": [1]}}}, {"inputs": {"image": 5}},
    {"inputs": {"image": {"color_layout": ["RGB"]}}},
    {"inputs": {"image": {"color_layout": "CMYK"}, "flag": {"color_layout": "RGB"}}}, {"labels": {"a": 1}},
    {"labels": [None, {}, 1.5, "\ud800"]},
]  # fmt: skip


@pytest.mark.parametrize("own", HOSTILE, ids=repr)
def test_metadata_of_another_form_says_nothing(own: object, tmp_path: Path) -> None:
    model = load(asset(tmp_path, own))
    assert [color_layout(model, name) for name in model.inputs] == [None, None]
    outputs = model.predict(read_inputs(model, {"image": "0.5", "flag": "1"}), state=model.make_state())
    assert list(labelled(model, outputs)) == ["scores"]


def test_metadata_of_our_own_form_is_used(tmp_path: Path) -> None:
    functions = {"main": {"inputs": {"image": {"color_layout": "BGR"}}}}
    model = load(asset(tmp_path, {"functions": functions, "inputs": {"image": {"color_layout": "RGB"}}}))
    assert color_layout(model, "image") == "BGR"
    assert known_inputs({"inputs": functions["main"]["inputs"]}, "main") == functions["main"]["inputs"]
