"""YOLO-style heads: boxes in pixels as they come, or maps decoded by the formulas of v3, v5, YOLOX or v8."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from builder.artifacts.stages import Suppression
from builder.errors import ConfigurationError
from builder.model.detection.candidates import Pool
from builder.model.detection.head import Defaults
from builder.model.detection.kept import Detections, keep_best
from builder.model.flatten import flatten_outputs
from builder.spec.detection import YoloDetection

KEY = "detection.decode"


class YoloHead(nn.Module):
    """What a YOLO-style model returns, to boxes (P, 4) as shares and scores (P, C); a box is of its best class."""

    def __init__(self, detection: YoloDetection, classes: int, model: nn.Module, picture: Tensor) -> None:
        super().__init__()
        self.defaults, self.pool = Defaults(), Pool(best_class=True)
        self._classes, self._decode, self._anchors = classes, detection.decode, detection.anchors
        self._size = (int(picture.shape[-2]), int(picture.shape[-1]))
        self._check(returned_tensors(model(picture)))

    def forward(self, *returned: Tensor) -> tuple[Tensor, Tensor]:
        """One array of decoded boxes, or all maps."""
        if self._decode == "none":
            return self._split(self._as_rows(returned[0]))
        levels = [self._level(index, level) for index, level in enumerate(returned)]
        boxes, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
        return boxes, scores

    def run(self, model: nn.Module, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model, then decode."""
        decoded: tuple[Tensor, Tensor] = self(*returned_tensors(model(picture)))
        return decoded

    def original(self, model: nn.Module, picture: Tensor, suppression: Suppression) -> Detections:
        """Torchvision's suppression of what is decoded: such a model has none of its own."""
        return keep_best(*self.run(model, picture), suppression)

    def _level(self, index: int, level: Tensor) -> tuple[Tensor, Tensor]:
        """One map (1, channels, h, w): boxes and scores of its cells, row by row."""
        height, width = level.shape[-2:]
        cells = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), dim=-1)
        cells = cells.reshape(1, -1, 2).float()
        strides = torch.tensor([self._size[1] / width, self._size[0] / height])
        if self._decode == "v8":
            return self._distances(level, cells, strides)
        count = 1 if self._anchors is None else len(self._anchors[index])
        rows = level.reshape(count, -1, height * width).transpose(1, 2)  # (anchors, cells, 5 + C)
        place, size, chances = rows[..., :2], rows[..., 2:4], torch.sigmoid(rows[..., 4:])
        if self._decode == "x":
            boxes = torch.cat([(place + cells) * strides, torch.exp(size) * strides], dim=-1)
        else:
            assert self._anchors is not None, "the recipe's v3 and v5 have anchors"
            anchors = torch.tensor(self._anchors[index])[:, None]
            place, size = self._from_anchors(place, size)
            boxes = torch.cat([(place + cells) * strides, size * anchors], dim=-1)
        return self._split(torch.cat([boxes, chances], dim=-1).flatten(0, 1))

    def _from_anchors(self, place: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets of the centre from the corner of its cell, in cells, and factors on the anchor."""
        if self._decode == "v3":  # arXiv:1804.02767, section 2.1
            return torch.sigmoid(place), torch.exp(size)
        return 2 * torch.sigmoid(place) - 0.5, (2 * torch.sigmoid(size)) ** 2  # ultralytics/yolov5, issue 471

    def _distances(self, level: Tensor, cells: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
        """Distances to left, top, right and bottom in cells, each the mean of a distribution (arXiv:2006.04388)."""
        rows = level[0].flatten(1).transpose(0, 1)  # (cells, 4 * bins + C)
        bins = (rows.shape[1] - self._classes) // 4
        shares = torch.softmax(rows[:, : 4 * bins].reshape(-1, 4, bins), dim=-1)
        distances = (shares * torch.arange(bins).float()).sum(-1)
        low, high = cells[0] + 0.5 - distances[:, :2], cells[0] + 0.5 + distances[:, 2:]
        boxes = torch.cat([(low + high) * 0.5, high - low], dim=-1) * torch.cat([strides, strides])
        return self._split(torch.cat([boxes, torch.sigmoid(rows[:, 4 * bins :])], dim=-1))

    def _as_rows(self, returned: Tensor) -> Tensor:
        """(1, channels, P) or (1, P, channels) as (P, channels)."""
        rows = returned[0]
        return rows.transpose(0, 1) if rows.shape[0] - self._classes in (4, 5) else rows

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of a box in pixels, perhaps an objectness, and classes."""
        height, width = self._size
        boxes = rows[:, :4] / torch.tensor([width, height, width, height], dtype=rows.dtype)
        if rows.shape[1] == 4 + self._classes:
            return boxes, rows[:, 4:]
        return boxes, rows[:, 5:] * rows[:, 4:5]

    def _check(self, returned: tuple[Tensor, ...]) -> None:
        """Raise ConfigurationError where what the model returns is not what the recipe says."""
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in returned)
        message = f"and the model returns {len(returned)} tensor{'s' if len(returned) > 1 else ''} of shape {shapes}"
        wanted = f"with {self._classes} labels"
        if self._decode == "none":
            sides = returned[0].shape[1:] if returned[0].ndim == 3 and returned[0].shape[0] == 1 else ()
            if len(returned) != 1 or not {4 + self._classes, 5 + self._classes} & set(sides):
                raise ConfigurationError(
                    f"{wanted}, decoded boxes have {4 + self._classes} or {5 + self._classes} channels, (1, channels, "
                    f"boxes) or (1, boxes, channels), {message}",
                    code="B0251",
                    hint="say in `decode` how its maps become boxes, or list the model's labels",
                    key=KEY,
                )
            return
        for index, level in enumerate(returned):
            channels = self._channels(index, level)
            if channels is not None:
                raise ConfigurationError(f"{wanted}, each map has {channels}, {message}", code="B0251", key=KEY)
        if self._anchors is not None and len(self._anchors) != len(returned):
            raise ConfigurationError(
                f"anchors for {len(self._anchors)} maps, {message}",
                code="B0251",
                hint="give a list for each map",
                key="detection.anchors",
            )

    def _channels(self, index: int, level: Tensor) -> str | None:
        """What was expected of a map that has another shape."""
        if level.ndim != 4 or level.shape[0] != 1:
            return "the shape (1, channels, h, w)"
        channels = int(level.shape[1])
        if self._decode == "v8":
            bins, rest = divmod(channels - self._classes, 4)
            return None if rest == 0 and bins > 1 else f"4 times the bins of a distance and {self._classes} channels"
        anchors = self._anchors or []
        count = 1 if self._anchors is None else len(anchors[index]) if index < len(anchors) else 0
        expected = count * (5 + self._classes)
        return None if channels == expected or count == 0 else f"{expected} channels"


def returned_tensors(returned: object) -> tuple[Tensor, ...]:
    """What a model returns, as tensors in its order."""
    return tuple(flatten_outputs(returned).values())
