"""Weights that hooks and parametrizations compute are computed once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from builder.errors import ConversionError
from tests.unit.substitutions.rewriting import agree, apply, types_in


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and in most published vocoders
        return nn.utils.weight_norm(layer)


WAYS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight_norm": old_weight_norm,
    "old spectral_norm": nn.utils.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
}


@pytest.mark.parametrize("way", WAYS)
def test_computed_weights_become_parameters(way):
    # given
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), WAYS[way](nn.Linear(4, 4)), nn.ReLU()).eval()
    x = torch.randn(3, 5)
    # when
    new, effect = apply("parametrization_removal", model, x)
    # then
    assert effect.exact
    assert effect.replaced == ("1",)
    assert type(new[1]) is nn.Linear
    assert "weight" in dict(new[1].named_parameters())
    assert not new[1]._forward_pre_hooks
    assert "weight" not in dict(model[1].named_parameters()), "the original stays"
    agree(model, new, x, within=1e-6)


def test_then_other_rewrites_can_follow():
    model = nn.Sequential(old_weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4)).eval()
    with pytest.raises(ConversionError, match=r"0 \(Linear\) has forward hooks"):
        apply("linear_to_conv1x1", model, torch.randn(3, 4))
    baked, _ = apply("parametrization_removal", model, torch.randn(3, 4))
    new, _ = apply("linear_to_conv1x1", baked, torch.randn(3, 4))
    assert types_in(new) == {"Sequential", "LinearAsConv1x1"}
    agree(model, new, torch.randn(3, 4))


def test_shared_modules_are_done_once_and_named_everywhere():
    shared = parametrizations.weight_norm(nn.Linear(4, 4))
    new, effect = apply("parametrization_removal", nn.Sequential(shared, nn.Sequential(shared)), torch.randn(3, 4))
    assert effect.replaced == ("0", "1.0")
    assert new[0] is new[1][0]
