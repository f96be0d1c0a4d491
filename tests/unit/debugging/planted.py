"""Models with one planted fault each; recipes name these factories."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

import builder
from builder.examples.vision_transformer import vision_transformer
from builder.model.sources.seeded import initialise_seeded
from builder.model.torchvision_import import import_torchvision

DIGITS = Path(builder.__file__).parents[1] / "recipes/weights/digits_mobilenet.safetensors"


def sound() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def scaled(factor: float, layer: int = 2) -> nn.Module:
    """The same function, with one convolution larger by `factor` and the next one smaller."""
    model = sound()
    with torch.no_grad():
        model[layer].weight *= factor
        model[layer].bias *= factor
        model[layer + 2].weight /= factor
    return model


def overflow() -> nn.Module:
    return scaled(1e6)


def overflow_first() -> nn.Module:
    return scaled(1e6, layer=0)


def denormal() -> nn.Module:
    return scaled(1e-6)


def denormal_first() -> nn.Module:
    return scaled(1e-6, layer=0)


class Squared(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x * 1000.0) ** 2).mean(-1, keepdim=True).sqrt() / 1000.0 + x


def square() -> nn.Module:
    """A norm whose squares overflow although its inputs and its result do not."""
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), Squared(), nn.Linear(32, 10))


class Shifted(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).roll(1, 1)


def shift(layer: nn.Module) -> nn.Module:
    return Shifted(layer)


def halve(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.Hardtanh(-0.01, 0.01))


def digits_overflow() -> nn.Module:
    """The trained digits model, with what `features.1` makes larger by 30,000, and what reads it smaller."""
    model = import_torchvision().models.mobilenet_v2(num_classes=10, width_mult=0.35)
    model.load_state_dict(load_file(DIGITS))
    _scale(model.features[1].conv[2], model.features[2].conv[0][0], 3e4)
    return model


def resnet18_overflow() -> nn.Module:
    """ResNet-18 with seeded weights, and `layer2.0.bn1` larger by 30,000."""
    model = import_torchvision().models.resnet18(num_classes=10)
    initialise_seeded(model, (torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)),), 0)
    _scale(model.layer2[0].bn1, model.layer2[0].conv2, 3e4)
    return model


def vit_overflow() -> nn.Module:
    """A ViT with seeded weights of three layers, and the values of the middle one's attention larger by 30,000."""
    model = vision_transformer(image_size=32, patch_size=16, layers=3, heads=2, width=32, classes=10)
    attention = model.encoder.layers[1].self_attention
    with torch.no_grad():
        attention.in_proj_weight[2 * 32 :] *= 3e4
        attention.in_proj_bias[2 * 32 :] *= 3e4
        attention.out_proj.weight /= 3e4
    return model


def _scale(layer: nn.Module, reader: nn.Module, factor: float) -> None:
    with torch.no_grad():
        layer.weight *= factor
        layer.bias *= factor
        reader.weight /= factor
