"""A small vision transformer, from torchvision's own class."""

from __future__ import annotations

from torch import nn

from builder.model.sources.seeded import initialise_seeded
from builder.model.torchvision_import import import_torchvision


def vision_transformer(
    image_size: int = 64,
    patch_size: int = 8,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    classes: int = 10,
    seed: int = 0,
) -> nn.Module:
    """A ViT (arXiv:2010.11929): pictures (1, 3, image_size, image_size) to logits (1, classes), with untrained weights.

    torchvision's names such as `vit_b_16` fix the sizes, which its class takes as arguments.
    """
    model = import_torchvision().models.VisionTransformer(
        image_size=image_size,
        patch_size=patch_size,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=4 * width,
        num_classes=classes,
    )
    initialise_seeded(model, (), seed)  # torchvision leaves the head at zero: all logits would be equal
    assert isinstance(model, nn.Module)
    return model
