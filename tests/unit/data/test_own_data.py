"""A user's own data: read as the app would give it, and named with what was expected where it is not that."""

from __future__ import annotations

import csv
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from safetensors.numpy import save_file

from builder.artifacts.stages import Preprocessing
from builder.data import draw_samples
from builder.errors import SourceError
from builder.model.torchvision_import import import_torchvision
from builder.spec.data import Data
from builder.spec.inputs import ImageInput, Input, TensorInput

functional = import_torchvision().transforms.functional
WIDTH, HEIGHT = 24, 16


def _input(**values: Any) -> ImageInput | TensorInput:
    adapter: TypeAdapter[ImageInput | TensorInput] = TypeAdapter(Input)
    return adapter.validate_python(values)


def _data(**values: Any) -> Data:
    adapter: TypeAdapter[Data] = TypeAdapter(Data)
    return adapter.validate_python(values)


def _image(color_layout: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> dict[str, ImageInput | TensorInput]:
    channels = 1 if color_layout.startswith("G") else 3
    shape = [1, channels, size[1], size[0]]
    return {"image": _input(kind="image", shape=shape, color_layout=color_layout, scale=1.0)}


def _picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels).convert(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures in two sub-folders, and what a Mac leaves behind."""
    root = tmp_path / "pictures"
    for index, name in enumerate(("cat/a.png", "cat/b.png", "dog/c.png", "dog/deeper/d.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        _picture(index).save(root / name)
    (root / ".DS_Store").write_bytes(b"\0")
    return root


def _csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_folder_gives_its_pictures_in_order_with_the_labels_of_its_sub_folders(folder: Path) -> None:
    samples = draw_samples(_data(kind="folder", folder=str(folder), labels="folders"), _image(), None, 0)
    assert [sample.label for sample in samples] == ["cat", "cat", "dog", "dog"]
    for index, sample in enumerate(samples):
        assert sample.given["image"] == _picture(index)
        expected = torch.from_numpy(np.asarray(_picture(index), dtype=np.float32)).permute(2, 0, 1)[None]
        assert torch.equal(sample.tensors["image"], expected)


def test_a_csv_file_says_the_labels_and_may_lie_in_the_folder(folder: Path) -> None:
    names = ["dog/deeper/d.png", "cat/a.png", "cat/b.png", "dog/c.png"]
    table = _csv(folder / "labels.csv", [["file", "label"], *([name, f"is {name[-5]}"] for name in names)])
    samples = draw_samples(_data(kind="folder", folder=str(folder), labels=str(table)), _image(), None, 0)
    assert [sample.label for sample in samples] == ["is a", "is b", "is c", "is d"]


def test_fewer_samples_are_drawn_by_the_seed_and_fewer_still_are_the_first_of_them(folder: Path) -> None:
    data = _data(kind="folder", folder=str(folder), labels="folders")
    pictures = {seed: [s.given["image"] for s in draw_samples(data, _image(), 3, seed)] for seed in range(6)}
    assert pictures[0] == [s.given["image"] for s in draw_samples(data, _image(), 3, 0)]
    assert pictures[0][:2] == [s.given["image"] for s in draw_samples(data, _image(), 2, 0)]
    assert any(pictures[seed] != pictures[0] for seed in pictures)
    assert all(picture in [_picture(i) for i in range(4)] for picture in pictures[0])


def test_the_digest_is_that_of_the_content_and_of_the_labels(folder: Path) -> None:
    data = _data(kind="folder", folder=str(folder), labels="folders")

    def digest() -> Any:
        return draw_samples(data, _image(), None, 0).described()["digest"]

    first = digest()
    (folder / "cat" / "a.png").touch()
    assert digest() == first
    (folder / "cat").rename(folder / "horse")
    relabelled = digest()
    _picture(9).save(folder / "horse" / "a.png")
    assert len({first, relabelled, digest()}) == 3


@pytest.mark.parametrize(("layout", "mode"), [("RGB", "RGB"), ("BGR", "RGB"), ("G", "L"), ("G16", "F")])
@pytest.mark.parametrize("saved", ["RGB", "L", "P", "1"])
def test_pictures_of_known_modes_become_the_layout(layout: str, mode: str, saved: str, tmp_path: Path) -> None:
    picture = _picture(3, saved)
    picture.save(tmp_path / "a.png")
    sample = draw_samples(_data(kind="folder", folder=str(tmp_path)), _image(layout), None, 0)[0]
    given = sample.given["image"]
    assert isinstance(given, Image.Image)
    assert given.mode == mode
    wanted = picture.convert("RGB").convert("L" if mode in "LF" else "RGB")
    assert np.array_equal(np.asarray(given, dtype=np.uint8), np.asarray(wanted))


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(61, 40), (40, 61), (33, 33)])
def test_a_number_scales_and_cuts_as_torchvision_does(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    picture = _picture(1, size=size)
    picture.save(tmp_path / "a.png")
    data = _data(kind="folder", folder=str(tmp_path), resize=29, interpolation=name)
    given = draw_samples(data, _image(), None, 0)[0].given["image"]

    scaled = functional.resize(picture, [29], interpolation=functional.InterpolationMode(name))
    assert given == functional.center_crop(scaled, [HEIGHT, WIDTH])


def test_from_weights_prepares_pictures_as_the_weights_say(tmp_path: Path) -> None:
    picture = _picture(1, size=(61, 40))
    picture.save(tmp_path / "a.png")
    published = Preprocessing(mean=(0,), std=(1,), resize_size=20, crop_size=16, interpolation="bicubic")
    data = _data(kind="folder", folder=str(tmp_path), resize="from_weights")
    given = draw_samples(data, _image(size=(16, 16)), None, 0, published=published)[0].given["image"]
    scaled = functional.resize(picture, [20], interpolation=functional.InterpolationMode.BICUBIC)
    assert given == functional.center_crop(scaled, [16, 16])


@pytest.mark.parametrize("size", [(61, 40), (10, 100), (24, 16), (7, 5)])
def test_crop_covers_the_input_and_stretch_fills_it(size: tuple[int, int], tmp_path: Path) -> None:
    _picture(1, size=size).save(tmp_path / "a.png")
    for way in ("crop", "stretch"):
        given = draw_samples(_data(kind="folder", folder=str(tmp_path), resize=way), _image(), None, 0)[0].given[
            "image"
        ]
        assert isinstance(given, Image.Image)
        assert given.size == (WIDTH, HEIGHT)
    assert given == _picture(1, size=size).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)


def test_a_picture_is_turned_as_it_says(tmp_path: Path) -> None:
    lying = _picture(1, size=(HEIGHT, WIDTH))
    exif = lying.getexif()
    exif[0x0112] = 6  # the top of the scene is on the right
    lying.save(tmp_path / "a.png", exif=exif)
    given = draw_samples(_data(kind="folder", folder=str(tmp_path)), _image(), None, 0)[0].given["image"]
    assert np.array_equal(np.asarray(given), np.asarray(lying.transpose(Image.Transpose.ROTATE_270)))


Break = Callable[[Path], dict[str, Any]]


def _truncate(root: Path) -> dict[str, Any]:
    whole = (root / "cat/a.png").read_bytes()
    (root / "cat/a.png").write_bytes(whole[: len(whole) // 2])
    return {}


def _write(name: str, content: bytes) -> Break:
    def write(root: Path) -> dict[str, Any]:
        (root / name).write_bytes(content)
        return {}

    return write


def _save(picture: Image.Image, **settings: Any) -> Break:
    def save(root: Path) -> dict[str, Any]:
        picture.save(root / "cat" / "a.png")
        return settings

    return save


def _labels(*rows: list[str]) -> Break:
    def write(root: Path) -> dict[str, Any]:
        return {"labels": str(_csv(root.parent / "labels.csv", list(rows)))}

    return write


def _empty(root: Path) -> dict[str, Any]:
    (root.parent / "empty").mkdir()
    return {"folder": str(root.parent / "empty")}


HEAD = ["file", "label"]
ALL = [["cat/a.png", "x"], ["cat/b.png", "x"], ["dog/c.png", "x"], ["dog/deeper/d.png", "x"]]


@pytest.mark.parametrize(
    ("break_it", "said", "key"),
    [
        (_truncate, r"cat/a\.png is damaged: .*truncated", "folder"),
        (_write("cat/notes.txt", b"hello"), r"notes\.txt is not a picture", "folder"),
        (_write("cat/empty.png", b""), r"empty\.png is not a picture", "folder"),
        (_save(_picture(0, size=(9, 9))), r"has 9 x 9 pixels, and the input takes 24 x 16", "folder"),
        (_save(_picture(0, "RGBA")), r"has mode RGBA, and the input takes RGB or L", "folder"),
        (_save(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16))), r"has mode I;16", "folder"),
        (_save(_picture(0), resize=8), r"cannot be cut", "folder"),
        (_save(_picture(0), resize="from_weights"), r"do not publish how pictures are scaled", "resize"),
        (_save(_picture(0), labels="folders", samples=5), r"has 4 samples, and 5 are asked for", ""),
        (_empty, r"no pictures in", "folder"),
        (lambda root: {"folder": str(root / "cat/a.png")}, r"is not a folder", "folder"),
        (_labels(["name", "class"], *ALL), r"labels\.csv:1 must say `file,label`", "labels"),
        (_labels(HEAD, *ALL[:2]), r"dog/c\.png has no label .*\(2 have none\)", "labels"),
        (
            _labels(HEAD, *ALL, ["bird.png", "x"]),
            r"labels\.csv:6 names bird\.png, which is not in the folder",
            "labels",
        ),
        (_labels(HEAD, *ALL, ALL[0]), r"labels\.csv:6 names cat/a\.png a second time", "labels"),
        (_labels(HEAD, ["cat/a.png", ""], *ALL[1:]), r"labels\.csv:2 must be a file and its label", "labels"),
        (_labels(HEAD, ["cat/a.png", "x", "y"], *ALL[1:]), r"labels\.csv:2 must be a file and its label", "labels"),
    ],
)
def test_a_folder_that_is_wrong_is_named_with_what_was_expected(
    break_it: Break, said: str, key: str, folder: Path
) -> None:
    changes = break_it(folder)
    count = changes.pop("samples", None)
    data = _data(**{"kind": "folder", "folder": str(folder)} | changes)
    with pytest.raises(SourceError, match=said) as raised:
        list(draw_samples(data, _image(), count, 0, key="checks.parity.data"))
    assert raised.value.key == f"checks.parity.data.{key}".rstrip(".")


def test_a_picture_outside_of_sub_folders_has_no_label(folder: Path) -> None:
    _picture(0).save(folder / "loose.png")
    with pytest.raises(SourceError, match=r"loose\.png lies in no sub-folder"):
        draw_samples(_data(kind="folder", folder=str(folder), labels="folders"), _image(), None, 0)


INPUTS = {
    **_image("BGR"),
    "x": _input(kind="tensor", shape=[1, 3]),
    "ids": _input(kind="tensor", shape=[2], dtype="int32", high=100),
}
ARRAYS: dict[str, np.ndarray] = {
    "image": np.stack([np.asarray(_picture(i)) for i in range(3)]),
    "x": np.arange(9, dtype=np.float32).reshape(3, 1, 3),
    "ids": np.arange(6, dtype=np.int32).reshape(3, 2),
    "labels": np.array([2, 0, 1]),
}


def _file(folder: Path, arrays: dict[str, np.ndarray], suffix: str) -> str:
    path = folder / f"arrays{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's own keyword is in the way
    else:
        save_file(arrays, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_tensors_give_each_input_its_array_and_labels(suffix: str, tmp_path: Path) -> None:
    samples = draw_samples(_data(kind="tensors", file=_file(tmp_path, ARRAYS, suffix)), INPUTS, None, 0)
    assert [sample.label for sample in samples] == [2, 0, 1]
    for index, sample in enumerate(samples):
        assert list(sample.tensors) == list(INPUTS)
        assert sample.given["image"] == _picture(index)
        assert torch.equal(sample.tensors["x"], torch.from_numpy(ARRAYS["x"][index]))
        assert torch.equal(sample.tensors["ids"], torch.from_numpy(ARRAYS["ids"][index]))


def test_a_leading_1_may_be_left_out_and_labels_may_be_names(tmp_path: Path) -> None:
    arrays = ARRAYS | {"x": ARRAYS["x"][:, 0], "labels": np.array(["b", "a", "c"])}
    samples = draw_samples(_data(kind="tensors", file=_file(tmp_path, arrays, ".npz")), INPUTS, None, 0)
    assert samples[1].tensors["x"].shape == (1, 3)
    assert [sample.label for sample in samples] == ["b", "a", "c"]


NAN = ARRAYS["x"].copy()
NAN[1, 0, 2] = np.nan


@pytest.mark.parametrize(
    ("changes", "said", "key"),
    [
        ({"x": ARRAYS["x"].astype(np.float64)}, r"sample 0: x is float64, and the input takes float32", "file"),
        ({"ids": ARRAYS["ids"].astype(np.int64)}, r"ids is int64, and the input takes int32", "file"),
        ({"x": ARRAYS["x"].reshape(3, 3, 1)}, r"x has shape \(3, 1\), and the input takes \(1, 3\)", "file"),
        ({"x": NAN}, r"sample 1: x holds NaN, first at \(0, 2\)", "file"),
        ({"x": np.full_like(ARRAYS["x"], np.inf)}, r"sample 0: x holds infinity, first at \(0, 0\)", "file"),
        ({"x": ARRAYS["x"][:2]}, r"different numbers of samples: image 3, x 2, ids 3, labels 3", "file"),
        ({"image": ARRAYS["image"].astype(np.float32)}, r"is float32 of shape .* a picture is uint8", "file"),
        ({"image": ARRAYS["image"][:, :8]}, r"has 24 x 8 pixels, and the input takes 24 x 16", "file"),
        ({"other": ARRAYS["x"]}, r"holds other, which is not an input", "file"),
        ({"x": None}, r"has no array for input x", "file"),
        ({"labels": np.array([0.5, 1, 2])}, r"label 0: a label is the name of a class or its number", "labels"),
        ({"labels": np.array([True, False, True])}, r"label 0: a label is", "labels"),
        ({name: value[:0] for name, value in ARRAYS.items()}, r"has no samples", ""),
    ],
)
def test_tensors_that_are_wrong_are_named_with_what_was_expected(
    changes: dict[str, Any], said: str, key: str, tmp_path: Path
) -> None:
    arrays = {name: value for name, value in (ARRAYS | changes).items() if value is not None}
    data = _data(kind="tensors", file=_file(tmp_path, arrays, ".npz"))
    with pytest.raises(SourceError, match=said) as raised:
        list(draw_samples(data, INPUTS, None, 0))
    assert raised.value.key == f"data.{key}".rstrip(".")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.97])
def test_a_truncated_file_of_tensors_is_damaged(suffix: str, kept: float, tmp_path: Path) -> None:
    path = Path(_file(tmp_path, {k: v for k, v in ARRAYS.items() if v.dtype != np.int64}, suffix))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(SourceError, match="is damaged"):
        draw_samples(_data(kind="tensors", file=str(path)), INPUTS, None, 0)


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes a module `my_data` that can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_data", raising=False)

    def write(body: str) -> None:
        source = "import numpy as np\nimport torch\n\n" + textwrap.dedent(body)
        (tmp_path / "my_data.py").write_text(source)

    return write


X = {"x": _input(kind="tensor", shape=[1, 3])}
PYTHON = _data(kind="python", factory="my_data:make")


def test_a_factory_gives_samples_with_labels(user_module: Callable[[str], None], tmp_path: Path) -> None:
    user_module(
        """
        def make(start, numbers):
            values = np.loadtxt(numbers, dtype=np.float32)
            return [({"x": values + start + i}, i) for i in range(4)]
        """
    )
    (tmp_path / "numbers.txt").write_text("1 2 3")
    data = _data(kind="python", factory="my_data:make", arguments={"start": 10}, files={"numbers": "numbers.txt"})
    samples = draw_samples(data, X, None, 0)
    assert [sample.label for sample in samples] == [0, 1, 2, 3]
    assert samples[3].tensors["x"].tolist() == [[14.0, 15.0, 16.0]]


def test_of_an_iterator_the_first_samples_are_taken(user_module: Callable[[str], None]) -> None:
    user_module(
        """
        def make():
            while True:
                yield {"x": torch.rand(1, 3)}
        """
    )
    first, again = (draw_samples(PYTHON, X, 3, 0) for _ in range(2))
    assert [s.tensors["x"].tolist() for s in first] == [s.tensors["x"].tolist() for s in again]
    assert first[0].label is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def make():\n    return 3", r"returned a int, not a sequence or an iterator"),
        ("def make():\n    return []", r"has no samples"),
        ("def make():\n    return [3]", r"sample 0 of my_data:make is of int; it must be a mapping"),
        ("def make():\n    return [{'y': 3}]", r"has values for y, and the inputs are x"),
        ("def make():\n    return [{'x': [1, 2, 3]}]", r"x is of list, and the input takes an array"),
        ("def make():\n    return [({'x': torch.zeros(3)}, 0.5)]", r"a label is the name of a class or its number"),
        ("def make():\n    raise ValueError('no luck')", r"raised ValueError: no luck \(at .*my_data\.py:5\)"),
        ("def make():\n    yield {'x': torch.zeros(1, 3)}\n    raise OSError('gone')", r"raised OSError: gone"),
        ("def other():\n    pass", r"my_data has no make"),
    ],
)
def test_a_factory_that_is_wrong_is_named(body: str, said: str, user_module: Callable[[str], None]) -> None:
    user_module(body)
    with pytest.raises(SourceError, match=said) as raised:
        list(draw_samples(PYTHON, X, None, 0))
    assert raised.value.key in ("data.factory", "data")
