"""Half precision computed in float32 and rounded agrees with torch's own half, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from coreml_runtime import load
from coreml_runtime.model import Model
from tests.runtime.programs import save_program

SIZE = 8
HALVES = hn.arrays(np.float16, (2, SIZE), elements=st.floats(-60, 60, width=16))

WEIGHT = np.random.default_rng(0).standard_normal((4, SIZE)).astype(np.float16)
Build = Callable[[Any, Any], Any]
ONE_ROUNDING: dict[str, Build] = {
    "add": lambda x, y: mb.add(x=x, y=y),
    "sub": lambda x, y: mb.sub(x=x, y=y),
    "mul": lambda x, y: mb.mul(x=x, y=y),
    "real_div": lambda x, y: mb.real_div(x=x, y=y),
    "maximum": lambda x, y: mb.maximum(x=x, y=y),
    "abs": lambda x, y: mb.abs(x=x),
    "exp": lambda x, y: mb.exp(x=x),
    "floor": lambda x, y: mb.floor(x=x),
    "relu6": lambda x, y: mb.relu6(x=x),
    "sigmoid": lambda x, y: mb.sigmoid(x=x),
    "sqrt": lambda x, y: mb.sqrt(x=mb.abs(x=x)),
    "square": lambda x, y: mb.square(x=x),
    "tanh": lambda x, y: mb.tanh(x=x),
    "reduce_max": lambda x, y: mb.reduce_max(x=x, axes=[1]),
    "transpose": lambda x, y: mb.transpose(x=x, perm=[1, 0]),
}
"""Operators whose every step is one rounding: the same number, or its neighbour where a library approximates."""

SEVERAL_ROUNDINGS: dict[str, Build] = {
    "gelu": lambda x, y: mb.gelu(x=x),
    "linear": lambda x, y: mb.linear(x=x, weight=WEIGHT),
    "matmul": lambda x, y: mb.matmul(x=x, y=y, transpose_y=True),
    "reduce_mean": lambda x, y: mb.reduce_mean(x=x, axes=[1]),
    "reduce_sum": lambda x, y: mb.reduce_sum(x=x, axes=[1]),
    "silu": lambda x, y: mb.silu(x=x),
    "softmax": lambda x, y: mb.softmax(x=x),
    "softplus": lambda x, y: mb.softplus(x=x),
}
"""Operators that native half may round inside: sums of eight, or a product with a function."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """One program with every operator on the same inputs, in "half" and in "native"."""
    builds = [*ONE_ROUNDING.values(), *SEVERAL_ROUNDINGS.values()]
    path = save_program(
        Path(tmp_path_factory.mktemp("half")),
        lambda x, y: tuple(build(x, y) for build in builds),
        {"x": ((2, SIZE), "fp16"), "y": ((2, SIZE), "fp16")},
        precision="fp16",
    )
    return load(path), load(path, precision="native")


def steps_apart(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> int:
    """The largest distance in numbers that half precision has between two arrays; NaN equals NaN."""
    ordered = []
    for array in (ours, theirs):
        bits = np.where(np.isnan(array), np.float16(0), array.astype(np.float16)).view(np.int16).astype(np.int32)
        ordered.append(np.where(bits < 0, -(bits & 0x7FFF), bits))
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    return int(np.abs(ordered[0] - ordered[1]).max())


@given(x=HALVES, y=HALVES)
@settings(max_examples=60, deadline=None)
def test_half_is_what_native_half_computes(
    models: tuple[Model, Model], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]
) -> None:
    # when
    half, native = (model.predict({"x": x, "y": y}) for model in models)

    # then
    for index, name in enumerate([*ONE_ROUNDING, *SEVERAL_ROUNDINGS]):
        ours, theirs = half[f"y{index}"], native[f"y{index}"]
        assert (ours == ours.astype(np.float16)).all() or np.isnan(ours).any(), f"{name} is not a half"
        if name in ONE_ROUNDING:
            assert steps_apart(ours, theirs) <= 1, name
        else:  # an inner rounding of the largest term or product is 2^-11 of it, or a subnormal's step; eight at most
            largest = max(float(np.abs(theirs).max()), float(np.abs(x).max()) * float(np.abs(y).max() + 8))
            assert np.nanmax(np.abs(ours - theirs)) <= 8 * max(2.0**-11 * largest, 2.0**-24), name
