"""Recordings of predictions: the same bits, for whom they are made, and what is never recorded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from torch import Tensor

from coreml_runtime import PredictionError, load, replays
from coreml_runtime.mlprogram import ProgramNetwork
from coreml_runtime.recorded import Recording, _Recorder, record
from tests.runtime.programs import save_program

RANDOM = np.random.default_rng(3)
SHAPE = (1, 8, 64, 80)
SPATIAL, DEPTHWISE, SQUEEZE, EXCITE = (
    RANDOM.standard_normal(shape).astype(np.float32) / 4
    for shape in ((16, 8, 3, 3), (16, 1, 3, 3), (4, 16, 1, 1), (16, 4, 1, 1))
)
ROWS = RANDOM.standard_normal((32, 5)).astype(np.float32)


def network(x: Any, places: Any) -> Any:
    """An inverted residual with squeeze and excite; values of 80,000 elements are rounded by the shared buffer."""
    hidden = mb.conv(x=x, weight=SPATIAL, pad_type="same")
    hidden = mb.mul(x=hidden, y=mb.sigmoid_hard(x=hidden, alpha=1 / 6, beta=0.5))
    depth = mb.relu(x=mb.conv(x=hidden, weight=DEPTHWISE, groups=16, pad_type="same"))
    scale = mb.conv(x=mb.reduce_mean(x=depth, axes=[2, 3], keep_dims=True), weight=SQUEEZE)
    scaled = mb.mul(x=depth, y=mb.sigmoid(x=mb.conv(x=mb.silu(x=scale), weight=EXCITE)))
    first, second = mb.split(x=mb.add(x=scaled, y=hidden), num_splits=2, axis=1)
    pooled = mb.max_pool(
        x=mb.concat(values=[second, first], axis=1), kernel_sizes=[4, 5], strides=[4, 5], pad_type="valid"
    )
    rows = mb.layer_norm(x=mb.reshape(x=pooled, shape=(16, 256)), axes=[1], epsilon=1e-5)
    return mb.softmax(x=mb.slice_by_index(x=rows, begin=[0, 0], end=[16, 32]), axis=-1), mb.gather(
        x=ROWS, indices=places
    )


def inputs(seed: int, *, transposed: bool = False) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    x = random.standard_normal(SHAPE[:2] + SHAPE[:1:-1] if transposed else SHAPE).astype(np.float32)
    return {"x": x.swapaxes(2, 3) if transposed else x, "places": random.integers(0, 32, 7).astype(np.int32)}


def recordings(model: Any) -> list[Recording | None]:
    assert isinstance(model.network, ProgramNetwork)
    return [seen.recording for seen in model.network.replays.seen.values()]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    given: dict[str, tuple[tuple[int, ...], str]] = {"x": (SHAPE, "fp32"), "places": ((7,), "int32")}
    return save_program(tmp_path_factory.mktemp("program"), network, given, opset="ios16", precision=request.param)


@pytest.mark.parametrize("path", ["fp32", "fp16"], indirect=True)
def test_a_recording_has_the_bits_of_the_plan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setattr(replays, "_SECONDS_A_STEP", 1.0)  # however busy the machine is
    model = load(path)
    given = [inputs(seed, transposed=seed % 2 == 1) for seed in range(16)]
    expected = [load(path).predict(each) for each in given]

    # when it has seen inputs of two layouts in memory several times
    found = [model.predict(each) for each in given]

    # then both are recorded, and every prediction is that of a model which was just loaded
    assert len(recordings(model)) == 2
    assert all(recordings(model))
    for ours, theirs in zip(found, expected, strict=True):
        for name in model.outputs:
            np.testing.assert_array_equal(ours[name], theirs[name])

    # then what it returned before stays, and values are still there by name
    again = model.predict(given[0])
    assert not any(np.shares_memory(again[name], found[-1][name]) for name in model.outputs)
    assert len(model.predict(given[0], intermediates="all")) > len(model.outputs)
    # when many threads replay it at once
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(model.predict, given * 3))
    # then each rounds in a buffer of its own
    for ours, theirs in zip(threaded, found * 3, strict=True):
        for name in model.outputs:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_steps_that_take_long_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "_SECONDS_A_STEP", 0.0)
    model = load(save_program(tmp_path, lambda x: mb.exp(x=x), {"x": ((2, 3), "fp32")}))
    for _ in range(7):
        model.predict({"x": np.ones((2, 3), np.float32)})
    assert recordings(model) == [None]


def test_what_values_decide_is_not_recorded(tmp_path: Path) -> None:
    # given a program that looks at its indices, and one with a loop
    checked = load(
        save_program(
            tmp_path,
            lambda x: mb.gather(x=ROWS, indices=x, validate_indices=True),
            {"x": ((2,), "int32")},
        )
    )
    turned = load(
        save_program(
            tmp_path / "loop",
            lambda x: mb.while_loop(
                _cond=lambda value: mb.less(x=mb.reduce_sum(x=value), y=10.0),
                _body=lambda value: mb.add(x=value, y=1.0),
                loop_vars=(x,),
            ),
            {"x": ((2,), "fp32")},
        )
    )
    # when
    for _ in range(7):
        checked.predict({"x": np.int32([1, 2])})
        turned.predict({"x": np.float32([1, 2])})
    # then an index outside is still refused by the name of the operator, and the loop turns as often as values say
    with pytest.raises(PredictionError, match="operator gather"):
        checked.predict({"x": np.int32([1, 32])})
    assert turned.predict({"x": np.float32([8, 9])})["y0"].tolist() == [8, 9]
    assert not any(recordings(checked))
    assert not any(recordings(turned))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[0] * float(x[0].max()),
        lambda x: x[0] if bool(x[0].any()) else -x[0],
        lambda x: x[0][x[0] > 0],
        lambda x: torch.nonzero(x[0]),
        lambda x: x[0] + torch.rand(3),
    ],
    ids=["number", "truth", "mask", "places", "draw"],
)
def test_a_recording_ends_where_values_decide(function: Any) -> None:
    x = torch.tensor([1.0, -2.0, 3.0])

    def run(values: Sequence[Tensor]) -> tuple[Any, ...]:
        return (function(values),)

    assert record(run, [x])[1] is None


def test_a_recording_needs_no_compiler() -> None:
    """Torch wraps what a mode does in a function that imports its compiler, unless the mode says otherwise."""
    assert Path(_Recorder.__torch_dispatch__.__code__.co_filename).name == "recorded.py"


def test_one_tensor_as_two_inputs_is_not_recorded() -> None:
    x = torch.ones(3)
    assert record(lambda values: (values[0] + values[1],), [x, x])[1] is None


def test_arguments_of_every_kind_are_recorded() -> None:
    # given operators with lists, numbers, types, absent values and several results
    def run(values: Sequence[Tensor]) -> tuple[Any, ...]:
        (x,) = values
        largest, places = torch.sort(x, dim=1, descending=True, stable=True)
        spread = torch.nn.functional.pad(x, [1, 2], value=-1.5)
        rows = x[torch.arange(2)[:, None], places]
        parts = torch.split(spread, [3, 4], 1)
        inside = torch.nn.functional.interpolate(x[None, None], scale_factor=(2.0, 2.0), mode="bilinear")
        return largest.to(torch.float16).to(torch.float32), rows, torch.cat(parts, 1), inside, x.amax((0,)), x > 0

    first, second = torch.randn(2, 4), torch.randn(2, 4)
    # when
    _, recording = record(run, [first])
    # then
    assert recording is not None
    for ours, theirs in zip(recording([second]), run([second]), strict=True):
        assert torch.equal(ours, theirs)


def test_a_failure_in_a_recording_names_its_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a model that has been recorded
    monkeypatch.setattr(replays, "_SECONDS_A_STEP", 1.0)
    model = load(save_program(tmp_path, lambda x: mb.exp(x=x, name="power"), {"x": ((2, 3), "fp32")}))
    x = {"x": np.ones((2, 3), np.float32)}
    for _ in range(7):
        model.predict(x)

    # when neither way has the memory
    def fail(*_: object) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Recording, "__call__", fail)
    assert isinstance(model.network, ProgramNetwork)
    plan = model.network.plan
    failing = tuple(replace(step, fast=fail) for step in plan.block.steps)
    object.__setattr__(plan, "block", replace(plan.block, steps=failing))
    # then
    with pytest.raises(PredictionError, match="operator exp"):
        model.predict(x)
