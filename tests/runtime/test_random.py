"""The distributions and the seeds of the random operators."""

from __future__ import annotations

import pytest
import torch

from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.random import random_bernoulli, random_categorical, random_normal, random_uniform
from tests.runtime.contexts import make_context

SHAPE = (200, 500)
COUNT = 100_000
FP32 = TensorType(dtype="fp32", shape=SHAPE)
# Five standard errors of a mean over 100,000 draws with a standard deviation of at most 2.
FIVE_ERRORS = 5 * 2 / COUNT**0.5


def test_normal_has_the_mean_and_deviation_asked_for() -> None:
    # given, when
    drawn = random_normal(shape=SHAPE, mean=3.0, stddev=2.0, context=make_context(output=FP32))

    # then: 68.27 % lie within one deviation
    assert abs(drawn.mean().item() - 3) < FIVE_ERRORS
    assert abs(drawn.std().item() - 2) < FIVE_ERRORS
    assert abs(((drawn - 3).abs() < 2).float().mean().item() - 0.6827) < FIVE_ERRORS


def test_uniform_fills_the_half_open_interval_evenly() -> None:
    # given, when
    drawn = random_uniform(shape=SHAPE, low=-1.0, high=3.0, context=make_context(output=FP32))

    # then
    assert drawn.min() >= -1
    assert drawn.max() < 3
    shares = torch.histc(drawn, bins=4, min=-1, max=3) / COUNT
    assert (shares - 0.25).abs().max() < FIVE_ERRORS


def test_bernoulli_is_one_with_the_probability() -> None:
    # given, when
    drawn = random_bernoulli(shape=SHAPE, prob=0.2, context=make_context(output=FP32))

    # then
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.dtype is torch.float32
    assert abs(drawn.mean().item() - 0.2) < FIVE_ERRORS


@pytest.mark.parametrize("mode", ["logits", "probs"])
def test_categorical_draws_each_class_with_its_probability(mode: str) -> None:
    # given
    probabilities = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    x = probabilities.log() if mode == "logits" else probabilities

    # when
    drawn = random_categorical(x=x, mode=mode, size=COUNT, context=make_context(output=FP32))

    # then
    for row, expected in zip(drawn, probabilities, strict=True):
        shares = torch.bincount(row.long(), minlength=3) / COUNT
        assert (shares - expected).abs().max() < FIVE_ERRORS


def test_a_seed_repeats_its_values_and_no_seed_goes_on() -> None:
    # given
    context = make_context(output=FP32)

    # when
    seeded = [random_normal(shape=(4,), seed=7, context=context) for _ in range(2)]
    free = [random_uniform(shape=(4,), context=context) for _ in range(2)]

    # then
    assert torch.equal(*seeded)
    assert not torch.equal(*free)
    assert torch.equal(free[0], random_uniform(shape=(4,), context=make_context(output=FP32)))
