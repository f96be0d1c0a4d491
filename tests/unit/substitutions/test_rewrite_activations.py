"""Activations and dropout: exact rewrites give the same, also in place; approximate ones what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from builder.errors import ConfigurationError
from builder.model.torchvision_import import import_torchvision
from tests.unit.substitutions.rewriting import agree, apply, randomized, types_in

VALUES = torch.linspace(-12, 12, 4001).view(1, -1)


class Residual(nn.Module):
    """Uses the input of its activation again, which an in-place one has changed."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 1.5
        y = self.activation(x)
        return y + 2 * x


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("kind", "old"),
    [("relu6_to_clamp", nn.ReLU6), ("hardswish", nn.Hardswish), ("hardsigmoid", nn.Hardsigmoid), ("silu", nn.SiLU)],
)
def test_exact_activations_give_the_same_for_every_value_also_in_place(kind, old, inplace):
    # given
    model = Residual(old(inplace=inplace))
    # when
    new, effect = apply(kind, model, VALUES)
    # then
    assert effect.exact
    assert effect.replaced == ("activation",)
    assert not isinstance(new.activation, old)
    agree(model, new, VALUES, within=1e-6)  # a few roundings of one value


@pytest.mark.parametrize("inplace", [False, True])
def test_relu_is_relu6_below_six_and_says_what_it_changes_above(inplace):
    model = Residual(nn.ReLU6(inplace=inplace))
    new, effect = apply("relu6_to_relu", model, VALUES)
    agree(model, new, VALUES.clamp(max=4), within=0)
    assert not effect.exact
    assert effect.max_abs == pytest.approx((18 - 6) * (3 if inplace else 1))


@pytest.mark.parametrize(("kind", "furthest"), [("gelu_to_tanh", 5e-4), ("gelu_to_sigmoid", 0.0205)])
def test_approximate_gelus_are_as_near_as_they_say(kind, furthest):
    _, effect = apply(kind, nn.Sequential(nn.GELU()), VALUES)
    assert not effect.exact
    assert furthest / 5 < effect.max_abs < furthest


def test_a_gelu_by_tanh_is_left_as_it_is():
    with pytest.raises(ConfigurationError, match="matches nothing"):
        apply("gelu_to_tanh", nn.Sequential(nn.GELU("tanh")), VALUES)


def test_dropout_of_every_kind_is_removed():
    model = nn.Sequential(nn.Dropout(), nn.AlphaDropout(), nn.Linear(4001, 3), nn.Dropout(inplace=True)).eval()
    new, effect = apply("dropout_removal", model, VALUES)
    assert effect.replaced == ("0", "1", "3")
    assert types_in(new) == {"Sequential", "Identity", "Linear"}
    assert effect.max_abs == 0


def test_stochastic_depth_of_torchvision_is_removed():
    depth = import_torchvision().ops.StochasticDepth(0.5, "row")
    new, _ = apply("dropout_removal", nn.Sequential(depth).eval(), VALUES)
    assert types_in(new) == {"Sequential", "Identity"}


def test_all_activations_of_a_mobilenet_v3_can_be_spelled_out():
    # given torchvision's in-place activations, squeeze and excitation included
    model = randomized(import_torchvision().models.mobilenet_v3_small(weights=None))
    x = torch.rand(2, 3, 64, 64)
    # when
    new, hard = apply("hardswish", model, x)
    new, sigmoid = apply("hardsigmoid", new, x)
    # then
    assert (len(hard.replaced), len(sigmoid.replaced)) == (19, 9)
    assert not types_in(new) & {"Hardswish", "Hardsigmoid"}
    agree(model, new, x)
