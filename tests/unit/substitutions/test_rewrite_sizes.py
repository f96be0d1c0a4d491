"""Pooling and upsampling that are fixed at the size of the examples."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from builder.errors import ConversionError
from builder.model.substitutions import substitute
from builder.spec.substitutions import ShippedRewrite
from tests.unit.substitutions.rewriting import agree, apply, types_in


@pytest.mark.parametrize(
    ("old", "shape", "made"),
    [
        (nn.AdaptiveAvgPool2d(1), (2, 3, 7, 5), "AvgPool2d"),
        (nn.AdaptiveAvgPool2d((2, None)), (2, 3, 8, 5), "AvgPool2d"),
        (nn.AdaptiveAvgPool2d(3), (2, 3, 7, 9), "AvgPool2d"),  # 7 to 3: windows of 3, every 2
        (nn.AdaptiveAvgPool2d(3), (2, 3, 8, 8), "SlicedPool"),
        (nn.AdaptiveAvgPool2d(7), (2, 3, 1, 1), "SlicedPool"),
        (nn.AdaptiveAvgPool1d(4), (2, 3, 12), "AvgPool1d"),
        (nn.AdaptiveAvgPool3d(2), (2, 3, 4, 6, 8), "AvgPool3d"),
        (nn.AdaptiveMaxPool1d(5), (2, 3, 12), "SlicedPool"),
        (nn.AdaptiveMaxPool2d((2, 3)), (2, 3, 8, 9), "MaxPool2d"),
        (nn.AdaptiveMaxPool2d((3, 3)), (2, 3, 8, 9), "SlicedPool"),
        (nn.AdaptiveMaxPool3d(2), (2, 3, 4, 6, 8), "MaxPool3d"),
    ],
)
def test_adaptive_pooling_is_the_same_with_fixed_windows(old, shape, made):
    # given
    model, x = nn.Sequential(nn.Identity(), old), torch.randn(shape)
    # when
    new, effect = apply("adaptive_to_fixed_pooling", model, x)
    # then
    assert effect.exact
    assert effect.replaced == ("1",)
    assert made in types_in(new)
    agree(model, new, x, within=1e-6)


def test_windows_are_those_of_torch_for_all_small_sizes():
    for size, output in itertools.product(range(1, 13), range(1, 13)):
        x = torch.randn(1, 1, size)
        for old in (nn.AdaptiveAvgPool1d(output), nn.AdaptiveMaxPool1d(output)):
            new, _ = apply("adaptive_to_fixed_pooling", nn.Sequential(old), x)
            agree(nn.Sequential(old), new, x)


def test_pooling_without_a_batch_and_as_the_root():
    new, effect = apply("adaptive_to_fixed_pooling", nn.AdaptiveAvgPool2d(2), torch.randn(3, 8, 8))
    assert effect.replaced == ("",)
    agree(nn.AdaptiveAvgPool2d(2), new, torch.randn(3, 8, 8))


def test_another_size_than_the_fixed_one_is_refused():
    new, _ = apply("adaptive_to_fixed_pooling", nn.Sequential(nn.AdaptiveAvgPool2d(2)), torch.randn(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"fixed this layer at size \(8, 8\), and it gets \(1, 3, 9, 9\)"):
        new(torch.randn(1, 3, 9, 9))


class TwoSizes(nn.Module):
    """One pooling layer at two sizes, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.unused = nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x) + self.pool(x[..., 1:])


@pytest.mark.parametrize(("module", "said"), [("pool", "pool gets several sizes"), ("unused", "unused does not run")])
def test_a_layer_that_has_no_one_size_is_named(module, said):
    with pytest.raises(ConversionError, match=said) as raised:
        apply("adaptive_to_fixed_pooling", TwoSizes(), torch.randn(1, 3, 4, 4), modules=[module])
    assert raised.value.key == "substitutions.adaptive_to_fixed_pooling"


def test_indices_of_unequal_windows_are_refused():
    given = ShippedRewrite(kind="adaptive_to_fixed_pooling")
    model = nn.Sequential(nn.AdaptiveMaxPool2d(3, return_indices=True))
    with pytest.raises(ConversionError, match="its indices are asked for"):
        substitute(model, {"fixed": given}, lambda m: m(torch.randn(1, 1, 8, 8)))


def test_indices_of_equal_windows_are_kept():
    given = ShippedRewrite(kind="adaptive_to_fixed_pooling")
    x = torch.randn(1, 1, 8, 8)
    new, _ = substitute(
        nn.Sequential(nn.AdaptiveMaxPool2d(4, return_indices=True)), {"fixed": given}, lambda m: tuple(m(x))
    )
    assert torch.equal(new(x)[1], nn.AdaptiveMaxPool2d(4, return_indices=True)(x)[1])


@pytest.mark.parametrize(
    ("old", "shape"),
    [
        (nn.Upsample(scale_factor=2, mode="bicubic"), (2, 3, 5, 4)),
        (nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True), (2, 3, 5, 4)),
        (nn.Upsample(size=(11, 7), mode="bicubic"), (2, 3, 5, 4)),
        (nn.Upsample(scale_factor=(2, 1.5), mode="bilinear"), (2, 3, 5, 4)),
        (nn.Upsample(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True), (2, 3, 5, 7)),
        (nn.Upsample(scale_factor=2, mode="trilinear"), (1, 2, 3, 4, 5)),
        (nn.Upsample(scale_factor=1.5, mode="nearest-exact"), (2, 3, 5, 4)),
        (nn.Upsample(size=9, mode="linear"), (2, 3, 5)),
        (nn.UpsamplingNearest2d(scale_factor=3), (2, 3, 5, 4)),
        (nn.UpsamplingBilinear2d(size=(8, 9)), (2, 3, 5, 4)),
    ],
)
def test_upsampling_is_the_same_by_matrices(old, shape):
    model, x = nn.Sequential(old), torch.randn(shape)
    new, effect = apply("upsample_to_matmul", model, x)
    assert effect.exact
    assert "MatrixUpsample" in types_in(new)
    agree(model, new, x, within=1e-5)  # torch sums the sixteen products of bicubic in another order


def test_fixed_at_one_size_means_all_examples_have_it():
    given = ShippedRewrite(kind="upsample_to_matmul")

    def run(module: nn.Module) -> tuple[torch.Tensor, ...]:
        return tuple(module(torch.randn(1, 1, n, n)) for n in (3, 4))

    with pytest.raises(ConversionError, match="gets several sizes"):
        substitute(nn.Sequential(nn.Upsample(scale_factor=2)), {"up": given}, run)
