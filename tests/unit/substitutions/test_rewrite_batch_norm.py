"""Batch norm is folded where it alone takes what a layer returns, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from builder.errors import ConfigurationError, ConversionError
from builder.model.torchvision_import import import_torchvision
from tests.unit.substitutions.rewriting import agree, apply, randomized, types_in


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), (2, 4, 9)),
        (nn.Conv2d(4, 6, 3, bias=False, stride=2), nn.BatchNorm2d(6, eps=0.1), (2, 4, 9, 9)),
        (nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6, affine=False), (2, 4, 5, 5, 5)),
        (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), (2, 4, 9, 9)),
        (nn.ConvTranspose3d(4, 6, 3, groups=2), nn.BatchNorm3d(6), (2, 4, 4, 4, 4)),
        (nn.Linear(4, 6), nn.BatchNorm1d(6), (3, 4)),
        (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), (3, 4)),
    ],
)
def test_every_kind_of_layer_takes_its_batch_norm_in(layer, norm, shape):
    # given
    model, x = randomized(nn.Sequential(layer, norm, nn.ReLU())), torch.randn(shape)
    # when
    new, effect = apply("batch_norm_folding", model, x)
    # then
    assert effect.exact
    assert effect.replaced == ("1",)
    assert isinstance(new[1], nn.Identity)
    assert new[0].weight.requires_grad
    agree(model, new, x, within=2e-6)  # one layer, folded in double precision


class Uses(nn.Module):
    """One convolution and one batch norm, put together in different ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.norm, self.conv, self.how = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1), how
        self.other = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.how == "branch":
            return self.norm(y) + y
        if self.how == "two norms":
            return self.norm(y) * self.other(y)
        if self.how == "between":
            return self.norm(functional.relu(y))
        if self.how == "changed in place":
            y.add_(1)
            return self.norm(y)
        if self.how == "twice":
            return self.norm(y) + self.norm(x)
        if self.how == "before":
            return self.conv(self.norm(x))
        if self.how == "both twice":
            return self.norm(self.conv(self.norm(y)))
        return self.norm(y).relu_()


@pytest.mark.parametrize("how", ["branch", "two norms", "between", "changed in place", "twice", "before"])
def test_a_batch_norm_that_does_not_alone_take_the_output_stays(how):
    model, x = randomized(Uses(how)), torch.randn(1, 3, 5, 5)
    with pytest.raises(ConfigurationError, match="matches nothing"):
        apply("batch_norm_folding", model, x)


@pytest.mark.parametrize("how", ["in order", "both twice"])
def test_the_order_of_execution_counts_and_not_that_of_definition(how):
    model, x = randomized(Uses(how)), torch.randn(1, 3, 5, 5)
    new, effect = apply("batch_norm_folding", model, x)
    assert effect.replaced == ("norm",)
    agree(model, new, x)


def test_batch_statistics_and_other_dimensions_stay():
    by_batch = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    with pytest.raises(ConfigurationError, match="matches nothing"):
        apply("batch_norm_folding", by_batch, torch.randn(2, 3, 4, 4))
    over_rows = randomized(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))
    with pytest.raises(ConfigurationError, match="matches nothing"):
        apply("batch_norm_folding", over_rows, torch.randn(2, 6, 4))


def test_patterns_select_batch_norms():
    block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    new, effect = apply("batch_norm_folding", randomized(block), torch.randn(1, 3, 4, 4), modules=["3"])
    assert effect.replaced == ("3",)
    assert isinstance(new[1], nn.BatchNorm2d)


def test_a_convolution_with_a_computed_weight_is_refused_with_the_way_round():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    model = nn.Sequential(conv, nn.BatchNorm2d(3)).eval()
    with pytest.raises(ConversionError, match="has parametrizations") as raised:
        apply("batch_norm_folding", model, torch.randn(1, 3, 4, 4))
    assert "parametrization_removal" in (raised.value.hint or "")


def small_resnet(**settings) -> nn.Module:
    resnet = import_torchvision().models.resnet
    return randomized(resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], num_classes=10, **settings))


def test_all_batch_norms_of_a_residual_network_are_folded():
    model, x = small_resnet(), torch.rand(2, 3, 64, 64)
    new, effect = apply("batch_norm_folding", model, x)
    assert len(effect.replaced) == 17
    assert "BatchNorm2d" not in types_in(new)
    agree(model, new, x)


def test_all_batch_norms_of_a_mobilenet_are_folded():
    model = randomized(import_torchvision().models.mobilenet_v2(weights=None, width_mult=0.25))
    x = torch.rand(2, 3, 64, 64)
    new, effect = apply("batch_norm_folding", model, x)
    assert len(effect.replaced) == 52
    assert "BatchNorm2d" not in types_in(new)
    agree(model, new, x)


def test_frozen_batch_norms_of_torchvision_are_folded():
    model = small_resnet(norm_layer=import_torchvision().ops.FrozenBatchNorm2d)
    new, effect = apply("batch_norm_folding", model, torch.rand(1, 3, 64, 64))
    assert len(effect.replaced) == 17
    agree(model, new, torch.rand(1, 3, 64, 64))


def test_the_batch_norms_of_timm_leave_their_activation_behind():
    import_torchvision()  # timm imports it, and beside a CPU-only torch only this way works
    timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
    model = randomized(timm.create_model("mobilenetv3_small_050", pretrained=False))
    new, effect = apply("batch_norm_folding", model, torch.rand(1, 3, 64, 64))
    assert len(effect.replaced) == 34
    assert "BatchNormAct2d" not in types_in(new)
    agree(model, new, torch.rand(1, 3, 64, 64))
