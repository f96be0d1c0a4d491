"""Small detectors of torchvision's own classes, for pictures of 64 x 64, whose scores spread and boxes overlap."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from builder.model.torchvision_import import import_torchvision

SIDE = 64


class Levels(nn.Module):
    """A backbone of levels: (N, 3, H, W) to H/8, H/16 and H/32; a lone one as torchvision's backbones give it."""

    def __init__(self, channels: int = 8, levels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 4, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1))
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(levels - 1))
        self.out_channels = channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        levels = [self.stem(x)]
        for layer in self.down:
            levels.append(layer(levels[-1].relu()))
        return OrderedDict((str(index), level) for index, level in enumerate(levels))


def drawn(module: nn.Module, seed: int, scores: str) -> nn.Module:
    """Seeded weights; those of the layer(s) named `scores` larger, so that some classes are sure."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 4
            factor = 2.0 if scores in name else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * factor / fan**0.5)
    return module.eval()


def ssd(seed: int = 0, classes: int = 3, **more: Any) -> nn.Module:
    detection = import_torchvision().models.detection
    generator = detection.anchor_utils.DefaultBoxGenerator([[2], [2], [2]], min_ratio=20, max_ratio=90)
    backbone = Levels()
    head = detection.ssd.SSDHead([8, 8, 8], generator.num_anchors_per_location(), classes + 1)
    made = detection.ssd.SSD(
        backbone, generator, (SIDE, SIDE), classes + 1, head=head, image_mean=[0.5] * 3, image_std=[0.5] * 3, **more
    )
    return drawn(made, seed, "classification_head")


def retinanet(seed: int = 0, classes: int = 3, **more: Any) -> nn.Module:
    detection = import_torchvision().models.detection
    generator = detection.anchor_utils.AnchorGenerator(((12, 16), (24, 32), (48, 60)), ((0.5, 1.0, 2.0),) * 3)
    more = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | more
    made = detection.RetinaNet(Levels(), classes, anchor_generator=generator, **more)
    return drawn(made, seed, "cls_logits")


def fcos(seed: int = 0, classes: int = 3, **more: Any) -> nn.Module:
    detection = import_torchvision().models.detection
    generator = detection.anchor_utils.AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    more = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | more
    made = detection.FCOS(Levels(32), classes, anchor_generator=generator, **more)
    return drawn(made, seed, "cls_logits")


def faster(seed: int = 0, classes: int = 3, *, levels: int = 3, **more: Any) -> nn.Module:
    """Two stages on the first `levels` levels: proposals of each, features of one each."""
    models, ops = import_torchvision().models, import_torchvision().ops
    generator = models.detection.anchor_utils.AnchorGenerator(
        ((12, 16), (24, 32), (48, 60))[:levels], ((0.5, 1.0, 2.0),) * levels
    )
    names = [str(level) for level in range(levels)]
    more = {
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rpn_pre_nms_top_n_test": 60, "rpn_post_nms_top_n_test": 40,
        "box_roi_pool": ops.MultiScaleRoIAlign(names, 3, 2, canonical_scale=32),
        "box_head": models.detection.faster_rcnn.TwoMLPHead(8 * 9, 16),
        "box_predictor": models.detection.faster_rcnn.FastRCNNPredictor(16, classes + 1),
    } | more  # fmt: skip
    made = models.detection.FasterRCNN(Levels(levels=levels), rpn_anchor_generator=generator, **more)
    return drawn(made, seed, "cls_")


def masked() -> nn.Module:
    """A detector that looks for more than boxes."""
    made = faster()
    made.roi_heads.mask_roi_pool = made.roi_heads.box_roi_pool
    return made


def plain() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


class Heads(nn.Module):
    """A YOLO-style model: its maps (N, channels, h, w) at strides of 8, 16 and 32, as they are or made into one."""

    def __init__(self, channels: int, form: str, seed: int) -> None:
        super().__init__()
        self.backbone = Levels()
        self.outputs = nn.ModuleList(nn.Conv2d(8, channels, 1) for _ in range(3))
        self.form = form
        drawn(self, seed, "outputs")

    def forward(self, x: Tensor) -> Any:
        maps = [layer(level) for layer, level in zip(self.outputs, self.backbone(x).values(), strict=True)]
        if self.form == "maps":
            return maps
        rows = torch.cat([level.flatten(2) for level in maps], dim=2)  # (N, channels, P)
        place, size, chances = rows[:, :2].sigmoid() * SIDE, rows[:, 2:4].exp() * 8, rows[:, 4:].sigmoid()
        decoded = torch.cat([place, size, chances], dim=1)
        if self.form == "columns":
            return decoded
        if self.form == "rows":
            return decoded.transpose(1, 2)
        corners = torch.cat([place - size / 2, place + size / 2], dim=1).transpose(1, 2)
        return {"where": corners, "what": rows[:, 4:].transpose(1, 2), "other": maps[0]}


def heads(channels: int, form: str = "maps", seed: int = 0) -> nn.Module:
    return Heads(channels, form, seed).eval()
