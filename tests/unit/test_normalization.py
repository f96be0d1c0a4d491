"""Normalisation coefficients are torchvision's formula, for every way of writing them."""

from __future__ import annotations

import pytest
import torch

from builder.artifacts.stages import Preprocessing
from builder.errors import SourceError
from builder.model.normalization import resolve_normalization
from builder.model.torchvision_import import import_torchvision
from builder.spec.inputs import ImageInput

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def image(**settings) -> ImageInput:
    channels = 1 if settings.get("color_layout", "RGB").startswith("G") else 3
    return ImageInput(kind="image", shape=[1, channels, 4, 4], **settings)


@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_from_weights_is_torchvisions_normalize_over_all_levels(layout):
    # given every level in every channel
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    # when
    found = resolve_normalization("x", image(from_weights=True, color_layout=layout), IMAGENET)
    ours = levels * torch.tensor(found.scale).view(1, 3, 1, 1) + torch.tensor(found.bias).view(1, 3, 1, 1)
    # then: fp32 rounding of values up to 2.7
    normalize = import_torchvision().transforms.Normalize(IMAGENET.mean, IMAGENET.std)
    theirs = normalize(levels / 255)
    theirs = theirs if layout == "RGB" else theirs.flip(1)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_one_value_is_spread_over_channels():
    found = resolve_normalization("x", image(mean=0.5, std=[0.5]), None)
    assert found.scale == pytest.approx((2 / 255,) * 3)
    assert found.bias == pytest.approx((-1.0,) * 3)


def test_scale_and_bias_are_taken_as_they_are():
    found = resolve_normalization("x", image(scale=1 / 255, bias=[1.0], color_layout="G"), None)
    assert found.scale == (1 / 255,)
    assert found.bias == (1.0,)


@pytest.mark.parametrize("layout", ["RGB", "G"])
def test_weights_that_publish_nothing_fitting_are_refused(layout):
    published = None if layout == "RGB" else IMAGENET
    with pytest.raises(SourceError, match="publish no mean"):
        resolve_normalization("x", image(from_weights=True, color_layout=layout), published)
