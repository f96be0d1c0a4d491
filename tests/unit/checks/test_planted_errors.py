"""Errors that four draws of noise do not show are found with no data given, and what is right passes."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builder.checks import counterexample, stress
from builder.checks.beside import Judgement
from builder.checks.counterexample import Found
from builder.checks.domain import Point
from builder.reports.verdict import made_on
from builder.spec.inputs import TensorInput
from tests.unit.checks.planted import Planted, coarse, half, layers, parity, planted_errors, tensor

QUICK = (
    "a branch on the mean",
    "integers in half precision",
    "the last of an odd size",
    "a mask of one",
    "a branch on a dark picture",
    "the logarithm of silence",
    "round sizes alone",
)


def _named(name: str) -> Planted:
    return next(error for error in planted_errors() if error[0] == name)


@pytest.mark.parametrize("name", QUICK)
def test_an_error_that_noise_does_not_show_is_found(name: str) -> None:
    _, inputs, original, artifact = _named(name)
    without = parity(inputs, original, artifact, check={"stress": False, "search": 0.0})
    found = parity(inputs, original, artifact)
    assert without.passed is not False
    assert found.passed is False
    assert found.reason


@pytest.mark.slow
def test_nineteen_of_twenty_planted_errors_are_found() -> None:
    # given a build of 8 seconds, of which the search takes 2
    errors = planted_errors()
    missed = [name for name, inputs, f, g in errors if parity(inputs, f, g, build_seconds=8.0).passed is not False]
    assert len(missed) <= len(errors) // 20, missed


INT8, SIX_BITS = {"kind": "linear_quantize"}, {"kind": "palettize", "nbits": 6}
LEFT = {"linear_quantize": 0.06, "palettize": 0.25}
"""By how much of itself a value is off: 29 and 17 dB."""


@pytest.mark.parametrize("name", ["a scaled row of weights", "integers in half precision"])
def test_what_compression_may_cost_excuses_nothing_else(name: str) -> None:
    # given an error that 10 dB hide, in an artifact with weights of six bits
    _, inputs, original, wrong = _named(name)
    artifact, right = (coarse(function, LEFT["palettize"]) for function in (wrong, original))
    hidden = parity(inputs, original, artifact, compression=SIX_BITS, check={"search": 0.0})
    found = parity(inputs, original, artifact, compression=SIX_BITS, check={"search": 0.0}, converted=wrong)
    sound = parity(inputs, original, right, compression=SIX_BITS, check={"search": 0.0}, converted=original)
    assert hidden.passed is not False
    assert found.passed is False
    assert str(found.reason).startswith("apart from compression: ")
    assert sound.passed is not False


@pytest.mark.parametrize(("given", "held"), [(16.0, 26.0), (25.0, None), (None, None)])
def test_of_the_noise_that_a_recipe_allows_a_tenth_may_be_the_programs_own(
    given: float | None, held: float | None
) -> None:
    _, inputs, original, _ = _named("a scaled row of weights")
    limit = {} if given is None else {"snr_db": {"min": given}}
    own = coarse(original, 0.06)  # 29 dB
    report = parity(inputs, original, own, compression=INT8, check={"search": 0.0, **limit}, converted=own)
    assert report.passed is (held is not None)


@pytest.mark.slow
@pytest.mark.parametrize("step", [INT8, SIX_BITS], ids=["int8", "6 bits"])
def test_nineteen_of_twenty_are_found_in_compressed_artifacts(step: dict[str, object]) -> None:
    errors, share = planted_errors(), LEFT[str(step["kind"])]
    missed, refused = [], []
    for name, inputs, original, wrong in errors:
        if (
            parity(inputs, original, coarse(wrong, share), build_seconds=8.0, compression=step, converted=wrong).passed
            is not False
        ):
            missed.append(name)
        right = coarse(original, share)
        if parity(inputs, original, right, build_seconds=8.0, compression=step, converted=original).passed is False:
            refused.append(name)
    assert len(missed) <= len(errors) // 20, missed
    assert not refused


class Attention(nn.Module):
    """One layer of attention over (1, 32, 16), with a mask of ones for what may be seen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.norm, self.project, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.project(self.norm(x)).chunk(3, dim=-1)
        scores = q @ k.transpose(1, 2) / 4
        scores = scores.masked_fill(mask[:, None] == 0, -1e4)
        return self.out(scores.softmax(-1) @ v)


def _in_half(module: nn.Module) -> Callable[..., Tensor]:
    """The module as a right artifact computes it: in half precision."""
    import copy

    other = copy.deepcopy(module).half()
    return lambda *given: other(*(t.half() if t.is_floating_point() else t for t in given)).float()


def _right() -> dict[str, tuple[dict[str, dict[str, object]], nn.Module]]:
    torch.manual_seed(4)
    convolutions = nn.Sequential(
        nn.Conv1d(1, 8, 9, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 9, 2), nn.Flatten()
    )
    return {
        "layers": ({"x": tensor(1, 64)}, layers(0, 64, 128, 64, 16)),
        "convolutions": ({"x": tensor(1, 1, 400, low=-1.0, high=1.0)}, convolutions.eval()),
        "normalisation": ({"x": tensor(1, 8, 64)}, nn.Sequential(nn.Conv1d(8, 16, 3), nn.GroupNorm(4, 16), nn.GELU())),
        "attention": ({"x": tensor(1, 32, 16), "mask": tensor(1, 32, dtype="int32", high=2)}, Attention()),
        "probabilities": ({"x": tensor(1, 64)}, nn.Sequential(layers(1, 64, 32, 10), nn.Softmax(-1))),
        "any size": (
            {"x": tensor(1, {"min": 4, "max": 40, "default": 16}, 8)},
            nn.Sequential(nn.LayerNorm(8), layers(2, 8, 16, 4)),
        ),
        "no bias": (
            {"x": tensor(1, 32)},
            nn.Sequential(nn.Linear(32, 64, bias=False), nn.Tanh(), nn.Linear(64, 4, bias=False)),
        ),
    }


@pytest.mark.parametrize("name", _right())
def test_what_is_right_in_half_precision_passes(name: str) -> None:
    inputs, module = _right()[name]
    report = parity(inputs, module.eval(), _in_half(module.eval()))
    assert report.passed, report.reason
    assert report.data is not None
    assert report.data["stress"] >= 12
    assert report.data["search"]["tries"] > 1


@pytest.mark.parametrize("most", [60.0, 1e9])
def test_which_of_two_equal_values_is_taken_is_no_error(most: float) -> None:
    # given labels of the best two of some scores, which tie where scores are constant, saturate or nearly tie
    labels = torch.randint(0, 100_000, (16,), generator=torch.Generator().manual_seed(0))

    def original(x: Tensor) -> Tensor:
        return labels[x.clamp(max=most).topk(2).indices].int()

    def artifact(x: Tensor) -> Tensor:  # rounds, and takes the last of what ties
        return labels[15 - half(x.clamp(max=most)).flip(1).topk(2).indices].int()

    def wrong(x: Tensor) -> Tensor:  # the best and the worst
        return labels[torch.cat([x.argmax(1), x.argmin(1)])[None]].int()

    inputs = {"x": tensor(1, 16, low=0, high=100)}
    report = parity(inputs, original, artifact, check={"search": 2.0})
    assert report.passed is True, report.reason
    assert parity(inputs, original, wrong).passed is False


def test_the_worst_input_is_kept_and_tried_first_the_next_time() -> None:
    # given an error that no stress input shows, found by a search
    def wrong(x: Tensor) -> Tensor:
        return x * (2.0 if 0.30 < float(x[0, 0]) < 0.31 else 1.0)

    inputs = {"x": tensor(1, 4, low=0.0, high=1.0)}
    first = parity(inputs, lambda x: x * 1.0, wrong, check={"search": 20.0})
    assert first.passed is False
    assert first.worst_input is not None
    with np.load(io.BytesIO(first.worst_input)) as archive:
        assert 0.30 < float(archive["x"][0, 0, 0]) < 0.31
    # when the next build has no time
    again = parity(inputs, lambda x: x * 1.0, wrong, check={"search": 1e-3, "stress": False})
    # then
    assert again.passed is False
    assert "the worst input of an earlier build: y:" in str(again.reason)


def test_inputs_that_the_original_refuses_are_not_asked_of_the_artifact() -> None:
    def original(x: Tensor) -> Tensor:
        if not x.any():
            raise ValueError("silence")
        return x / x.abs().max()

    report = parity(
        {"x": tensor(1, 16)}, original, lambda x: half(x / x.abs().max().clamp(min=1e-3)), check={"search": 0.0}
    )
    assert report.data is not None
    assert report.data["refused_by_original"] == ["zeros in x", "sparse in x"]


def test_own_data_is_taken_whole_until_its_time_is_over(tmp_path: Path) -> None:
    # given 60 samples, and an original that takes 10 ms for each
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).standard_normal((60, 1, 8)).astype(np.float32))
    data = {"kind": "tensors", "file": str(tmp_path / "samples.npz")}

    def slow(x: Tensor) -> Tensor:
        time.sleep(0.01)
        return x * 2

    whole, part = (
        parity(
            {"x": tensor(1, 8)},
            slow,
            lambda x: half(x * 2),
            check={"data": data, "seconds": seconds, "stress": False, "search": 0.0},
        )
        for seconds in (60.0, 0.2)
    )
    assert whole.data is not None
    assert part.data is not None
    assert whole.data["description"] == "all 60 of your samples"
    assert whole.data["synthetic"] == []
    assert 4 <= part.data["samples"] < 25
    assert part.data["description"] == f"{part.data['samples']} of your 60 samples"


def test_samples_that_take_longer_than_the_first_ones_end_with_the_time_too(tmp_path: Path) -> None:
    # given 60 samples, and an original that is quick for the first of them alone
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).standard_normal((60, 1, 8)).astype(np.float32))
    runs: list[int] = []

    def slow(x: Tensor) -> Tensor:
        runs.append(0)
        time.sleep(0.1 if len(runs) > 10 else 0)
        return x * 2

    data = {"kind": "tensors", "file": str(tmp_path / "samples.npz")}
    check = {"data": data, "seconds": 0.5, "stress": False, "search": 0.0}
    report = parity({"x": tensor(1, 8)}, slow, lambda x: half(x * 2), check=check)
    assert report.data is not None
    assert report.data["samples"] < 30
    assert report.data["description"] == f"{report.data['samples']} of your 60 samples"


def test_stress_inputs_for_which_there_was_no_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "LEAST_SECONDS", {True: 0.0, False: 0.0})
    monkeypatch.setattr(stress, "SHARES", {True: 0.0, False: 0.0})
    monkeypatch.setattr(stress, "LEAST", {True: 3, False: 3})
    report = parity({"x": tensor(1, 16)}, lambda x: x * 2, lambda x: half(x * 2), check={"search": 0.0})
    assert report.data is not None
    assert (report.data["stress"], report.data["stress"] + report.data["stress_left"]) == (3, 22)
    assert "3 of 22 stress inputs (no time for more)" in made_on(report)


def test_a_slow_model_is_given_few_stress_inputs_and_no_search() -> None:
    # given a model that takes 0.3 s, and a build that took 2 s before its checks
    def slow(x: Tensor) -> Tensor:
        began = time.process_time()
        while time.process_time() - began < 0.3:
            pass
        return x * 2

    report = parity({"x": tensor(1, 16)}, slow, lambda x: half(x * 2), build_seconds=2.0)
    assert report.passed
    assert report.data is not None
    assert 4 <= report.data["stress"] < 8
    assert "search" not in report.data


def test_no_gradient_is_followed_for_which_there_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # given inputs that take a tenth of the search's time each, and a search that always wants the gradient
    followed: list[Point] = []
    monkeypatch.setattr(counterexample, "RESTARTS", 0.0)
    monkeypatch.setattr(counterexample, "GRADIENTS", 1.0)
    monkeypatch.setattr(counterexample._Hunt, "_risen", lambda _, point: followed.append(point))

    def judge(_: object) -> Judgement:
        began = time.process_time()
        while time.process_time() - began < 0.02:
            pass
        return Judgement(snr_db=50.0)

    spec = SimpleNamespace(artifact_inputs={"x": TensorInput.model_validate(tensor(1, 4))})
    subject = SimpleNamespace(spec=spec, prepared=SimpleNamespace(states={}))
    given: Any = type("Judge", (), {"subject": subject, "__call__": lambda _, sample: judge(sample)})()
    # when, then
    known = [Found(point={"x": np.zeros((1, 4), np.float32)}, judgement=Judgement(snr_db=50.0))]
    found = counterexample.search(given, known, 0.2, 0, each=0.02, most=10.0)
    assert found.tries > 3
    assert not followed
    assert counterexample.search(given, known, 2.0, 0, each=0.02, most=0.1).tries > 0
    assert followed


def test_what_a_check_was_made_on_is_recorded() -> None:
    report = parity({"x": tensor(1, 16), "y": tensor(1, 16)}, lambda x, y: x + y, lambda x, y: half(x + y))
    assert report.passed
    assert report.data is not None
    assert report.data["description"] == "4 draws of noise"
    assert report.data["synthetic"] == ["x", "y"]
    assert report.data["stress"] == 32
    tabled = parity({"x": tensor(1, 16)}, lambda x: x * 2, lambda x: half(x * 2), check={"data": {"kind": "tables"}})
    assert tabled.data is not None
    assert tabled.data["synthetic"] == []


def test_a_range_that_could_be_promised_is_named_where_its_values_miss_a_limit() -> None:
    # given an overflow at the ends of the range that is tried where none is declared
    wide, narrow = (
        parity(
            {"x": tensor(1, 8, **range_), "y": tensor(1, 8)},
            lambda x, y: 64.5 * x**5 + y,
            lambda x, y: half(64.5 * x**5) + y,
            check={"search": 0.0},
        )
        for range_ in ({}, {"low": -4.0, "high": 4.0})
    )
    assert str(wide.reason).endswith("; x declares no range, so -4 to 4 is tried: `low` and `high` promise less")
    assert narrow.passed is False
    assert "declares no range" not in str(narrow.reason)
