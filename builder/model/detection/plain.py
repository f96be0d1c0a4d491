"""Models that return boxes and scores themselves, in one of the usual forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from builder.artifacts.stages import Suppression
from builder.errors import ConfigurationError
from builder.model.detection.boxes import to_center_size
from builder.model.detection.candidates import Pool
from builder.model.detection.head import Defaults
from builder.model.detection.kept import Detections, keep_best
from builder.model.flatten import flatten_outputs
from builder.spec.detection import BoxesDetection
from builder.util.suggest import did_you_mean


class PlainHead(nn.Module):
    """Boxes (P, 4) and scores (P, C) by their names; a box is of its best class."""

    def __init__(self, detection: BoxesDetection, model: nn.Module, picture: Tensor) -> None:
        super().__init__()
        self.defaults, self.pool = Defaults(), Pool(best_class=True)
        self._said = detection
        self._size = (int(picture.shape[-2]), int(picture.shape[-1]))
        self._check(flatten_outputs(model(picture)))

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """To centres and sizes as shares, and to probabilities without the background."""
        boxes, scores = boxes.reshape(-1, 4), scores.reshape(-1, scores.shape[-1])
        if self._said.unit == "pixels":
            height, width = self._size
            boxes = boxes / torch.tensor([width, height, width, height], dtype=boxes.dtype)
        if self._said.form == "corners":
            boxes = to_center_size(boxes)
        elif self._said.form == "corner_size":
            boxes = torch.cat([boxes[:, :2] + boxes[:, 2:] * 0.5, boxes[:, 2:]], dim=-1)
        if self._said.activation == "sigmoid":
            scores = torch.sigmoid(scores)
        elif self._said.activation == "softmax":
            scores = torch.softmax(scores, dim=-1)
        if self._said.background == "none":
            return boxes, scores
        return boxes, scores[:, 1:] if self._said.background == "first" else scores[:, :-1]

    def run(self, model: nn.Module, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model, then bring what it returns to the one form."""
        returned = flatten_outputs(model(picture))
        decoded: tuple[Tensor, Tensor] = self(returned[self._said.boxes], returned[self._said.scores])
        return decoded

    def original(self, model: nn.Module, picture: Tensor, suppression: Suppression) -> Detections:
        """Torchvision's suppression of what the model returns."""
        return keep_best(*self.run(model, picture), suppression)

    def _check(self, returned: dict[str, Tensor]) -> None:
        for key in ("boxes", "scores"):
            name = getattr(self._said, key)
            if name not in returned:
                raise ConfigurationError(
                    f"the model returns {', '.join(returned)}, and none of them is {name}",
                    code="B0251",
                    hint=did_you_mean(name, returned) or f"name its {key}: `{key}: {next(iter(returned))}`",
                    key=f"detection.{key}",
                )
        boxes, scores = returned[self._said.boxes], returned[self._said.scores]
        fits = all(_is_table(tensor) for tensor in (boxes, scores)) and boxes.shape[-1] == 4
        if not fits or boxes.shape[-2] != scores.shape[-2]:
            raise ConfigurationError(
                f"boxes are (boxes, 4) and scores (boxes, classes), and the model returns {self._said.boxes} of shape "
                f"{tuple(boxes.shape)} and {self._said.scores} of {tuple(scores.shape)}",
                code="B0251",
                key="detection",
            )


def _is_table(tensor: Tensor) -> bool:
    return tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[0] == 1)
