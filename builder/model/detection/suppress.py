"""Suppression inside the program, of what a first stage proposes: a torch operator with a fixed number of answers.

Torchvision's own gives as many as stay, and a program whose sizes depend on the picture runs on the CPU alone.
`builder/backends/coreml/lowerings/detection.py` writes it as MIL's.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from builder.model.torchvision_import import import_torchvision

_LOCK = threading.Lock()
_libraries: list[torch.library.Library] = []


def declare_suppression() -> None:
    """Give torch the operator, which programs that were captured with it need when they are read again."""
    with _LOCK:
        if _libraries:
            return
        library: Any = torch.library.Library("builder", "DEF")  # type: ignore[no-untyped-call] # torch's own
        library.define("suppress(Tensor boxes, Tensor scores, float iou_threshold, int most) -> Tensor")
        library.impl("suppress", _suppress, "CPU")
        library.impl("suppress", _shaped, "Meta")
        _libraries.append(library)


def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """The indices of the best `most` of boxes (N, 4), as corners, that overlap no better one; -1 where there are fewer.

    An overlap is one where intersection over union exceeds the threshold.
    """
    declare_suppression()
    kept: Tensor = torch.ops.builder.suppress(boxes, scores, iou_threshold, most)
    return kept


def _suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    stays = import_torchvision().ops.nms(boxes, scores, iou_threshold)[:most]
    return torch.nn.functional.pad(stays, (0, most - len(stays)), value=-1)


def _shaped(boxes: Tensor, _scores: Tensor, _iou_threshold: float, most: int) -> Tensor:
    return torch.empty(most, dtype=torch.int64, device=boxes.device)
