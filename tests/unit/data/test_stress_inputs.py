"""Stress inputs stay within what inputs declare, and are what they say; data that comes along is like the real kind."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from builder.data import draw_samples
from builder.data.sizes import sizes_between
from builder.data.stress import bounds
from builder.data.stress_samples import MOST, stress_inputs
from builder.data.wording import shown_count
from builder.errors import SourceError
from builder.spec.coverage import covers
from builder.spec.data import Data, NoiseData
from builder.spec.inputs import ImageInput, Input, RangeDimension, TensorInput

NOISE = NoiseData(kind="noise")


def _input(**given: Any) -> Any:
    return TypeAdapter(Input).validate_python({"kind": "tensor", **given})


def _data(kind: str, **given: Any) -> Any:
    return TypeAdapter(Data).validate_python({"kind": kind, **given})


def _free(low: int, high: int, default: int) -> dict[str, int]:
    return {"min": low, "max": high, "default": default}


INPUTS: dict[str, dict[str, Any]] = {
    "sound": {"x": _input(shape=[1, 400])},
    "waveform": {"x": _input(shape=[1, 4410, 1])},
    "bands": {"x": _input(shape=[1, 100, 40], low=0.0, high=0.1)},
    "range": {"x": _input(shape=[2, 8], low=5.0, high=9.0, dtype="float16")},
    "ids": {
        "ids": _input(shape=[1, 16], dtype="int32", high=2**25),
        "mask": _input(shape=[1, 16], dtype="int32", high=2),
    },
    "negative": {"i": _input(shape=[4], dtype="int32", low=-70_000, high=10)},
    "picture": {"x": _input(shape=[1, 3, 16, 24], low=0.0, high=1.0)},
    "image": {"i": TypeAdapter(Input).validate_python({"kind": "image", "shape": [1, 3, 32, 32], "scale": 1.0})},
    "sizes": {"x": _input(shape=[1, _free(4, 64, 16), 8])},
}


@pytest.mark.parametrize("name", INPUTS)
def test_stress_inputs_are_what_the_inputs_declare(name: str) -> None:
    inputs = INPUTS[name]
    found = stress_inputs(NOISE, inputs, 0)
    assert 5 <= len(found) <= MOST
    assert len({one.description for one in found}) == len(found)
    for one in found:
        again, sample = one.make(), one.make()
        for key, given in inputs.items():
            value = sample.given[key]
            if isinstance(value, Image.Image):
                assert (value.mode, value.size) == ("RGB", (32, 32))
                continue
            low, high = bounds(given)
            tolerance = 1e-2 if given.low is None and given.dtype != "int32" else 0.0
            assert value.dtype == given.dtype
            assert np.isfinite(value).all()
            assert value.min() >= low - tolerance or given.low is None
            assert value.max() <= high + tolerance or given.high is None
            assert np.array_equal(value, again.given[key])


@pytest.mark.parametrize("name", ["waveform", "bands"])
def test_what_has_the_shape_of_a_sound_is_given_sounds(name: str) -> None:
    found = stress_inputs(NOISE, INPUTS[name], 0)
    like_real = [one for one in found if one.like_real]
    assert [one.description for one in like_real] == ["a chord in x", "speech in x", "a note in x"]
    assert found[:3] == like_real
    sound = like_real[2].make().tensors["x"].numpy().astype(np.float64)
    if name == "waveform":
        assert np.abs(sound).max() == pytest.approx(0.5)
        spectrum = np.abs(np.fft.rfft(sound.ravel()))
        assert spectrum.max() > 20 * np.median(spectrum)  # along time, and not along the last axis
    else:
        assert (sound.min(), sound.max()) == (pytest.approx(0, abs=1e-6), pytest.approx(0.1))
        assert np.abs(np.diff(sound, axis=1)).sum() < np.abs(np.diff(sound, axis=2)).sum()  # a note lasts


def test_features_are_no_sounds() -> None:
    for given in ({"shape": [1, 768]}, {"shape": [1, 128, 768]}, {"shape": [1, 2048], "low": 0.0, "high": 1.0}):
        assert not any(one.like_real for one in stress_inputs(NOISE, {"x": _input(**given)}, 0))


def test_integers_reach_beyond_every_narrow_type_and_below_zero() -> None:
    wide = np.concatenate([one.make().tensors["ids"].numpy().ravel() for one in stress_inputs(NOISE, INPUTS["ids"], 0)])
    for bits in (11, 15, 16, 24):
        assert {2**bits - 1, 2**bits, 2**bits + 1} & set(wide.tolist())
    below = np.concatenate([one.make().tensors["i"].numpy() for one in stress_inputs(NOISE, INPUTS["negative"], 0)])
    assert below.min() == -70_000
    assert {edge + step for edge in (-(2**15), -(2**16)) for step in (-1, 0, 1)} & set(below.tolist())


def test_levels_go_over_decades() -> None:
    levels = {
        one.description: float(one.make().tensors["x"].abs().max()) for one in stress_inputs(NOISE, INPUTS["sound"], 0)
    }
    assert levels["zeros in x"] == 0
    assert [round(math.log10(levels[f"level 1/{10**n} in x"] / 4)) for n in (1, 2, 3, 4)] == [-1, -2, -3, -4]
    assert levels["greatest value in x"] == 4


def test_masks_are_ones_up_to_a_length_in_stress_inputs_and_in_noise() -> None:
    masks = [one.make().tensors["mask"] for one in stress_inputs(NOISE, INPUTS["ids"], 0)]
    masks += [sample.tensors["mask"] for sample in draw_samples(NOISE, INPUTS["ids"], 8, 0)]
    counts = set()
    for mask in masks:
        count = int(mask.sum())
        assert mask[0, :count].all()
        counts.add(count)
    assert {1, 16} <= counts


def test_what_only_may_be_a_mask_gets_noise_too() -> None:
    inputs = {"token_type_ids": _input(shape=[1, 16], dtype="int32", high=2)}
    assert "noise in token_type_ids" in [one.description for one in stress_inputs(NOISE, inputs, 0)]


def test_sizes_between_the_ends_are_odd_prime_and_round() -> None:
    sizes = [shapes["x"][1] for shapes in sizes_between(INPUTS["sizes"])]
    assert any(size % 2 for size in sizes)
    assert any(size % 4 == 0 for size in sizes)
    assert any(all(size % factor for factor in range(2, size)) for size in sizes)
    assert all(4 < size < 64 for size in sizes)
    assert not sizes_between(INPUTS["sound"])
    two = {name: _input(shape=[1, {**_free(4, 64, 16), "name": "length"}]) for name in ("ids", "mask")}
    assert all(shapes["ids"] == shapes["mask"] for shapes in sizes_between(two))
    assert isinstance(two["ids"].shape[1], RangeDimension)


@pytest.mark.parametrize(
    ("kind", "name", "given"),
    [
        ("sounds", "audio", _input(shape=[1, 4000], low=-1.0, high=1.0)),
        ("sounds", "features", _input(shape=[1, 40, 50])),
        ("text_ids", "ids", _input(shape=[1, 64], dtype="int32", high=1000)),
        ("tables", "rows", _input(shape=[3, 7], low=0.0, high=10.0)),
        ("tables", "rows", _input(shape=[3, 7], dtype="int32", low=1, high=5)),
        ("text_boxes", "page", _input(shape=[1, 3, 48, 64])),
        ("text_boxes", "line", _input(shape=[1, 1, 32, 200], low=0.0, high=1.0)),
    ],
)
def test_data_that_comes_along_is_within_the_range_and_no_two_samples_are_alike(
    kind: str, name: str, given: TensorInput
) -> None:
    data = _data(kind)
    assert covers(data, name, given)
    samples = draw_samples(data, {name: given}, 6, 0)
    values = [sample.given[name] for sample in samples]
    low, high = bounds(given)
    for value in values:
        assert isinstance(value, np.ndarray)
        assert value.dtype == given.dtype
        assert (given.low is None and given.dtype != "int32") or (value.min() >= low and value.max() <= high)
    assert all(not np.array_equal(one, other) for one, other in pairwise(values))


def test_texts_and_their_masks_have_one_length() -> None:
    inputs = {**INPUTS["ids"], "ids": _input(shape=[1, 16], dtype="int32", high=1000)}
    for sample in draw_samples(_data("text_ids", pad=0, begin=1, end=2), inputs, 6, 0):
        ids, mask = sample.tensors["ids"][0], sample.tensors["mask"][0]
        assert ids[0] == 1 or mask.sum() == 1
        assert ids[int(mask.sum()) - 1] == 2
        assert ((ids != 0) == (mask == 1)).all()


def test_noise_covers_nothing_and_a_users_own_data_all() -> None:
    array, image = INPUTS["sound"]["x"], INPUTS["image"]["i"]
    assert not covers(NOISE, "x", array)
    assert covers(_data("tensors", file="samples.npz"), "x", array)
    assert isinstance(image, ImageInput)
    assert covers(_data("photographs"), "i", image)
    assert not covers(_data("photographs"), "x", array)


def test_own_data_beyond_the_declared_range_is_refused(tmp_path: Any) -> None:
    np.savez(tmp_path / "samples.npz", x=np.full((2, 1, 4), 2.0, np.float32))
    data = _data("tensors", file=str(tmp_path / "samples.npz"))
    inside = draw_samples(data, {"x": _input(shape=[1, 4], low=0.0, high=2.0)}, None, 0)
    assert len(inside[:]) == 2
    with pytest.raises(SourceError, match=r"holds 2, and the input has `high: 1\.5`"):
        draw_samples(data, {"x": _input(shape=[1, 4], low=0.0, high=1.5)}, None, 0)[0]


@pytest.mark.parametrize(
    ("kind", "used", "available", "words"),
    [
        ("tensors", 41, 41, "all 41 of your samples"),
        ("folder", 41, 1200, "41 of your 1,200 samples"),
        ("python", 1, 1, "your one sample"),
        ("photographs", 4, None, "4 photographs"),
        ("noise", 1, None, "1 draw of noise"),
    ],
)
def test_what_samples_are_called(kind: str, used: int, available: int | None, words: str) -> None:
    assert shown_count(kind, used, available) == words
