"""Untrained torchvision detectors that find something: sure of some boxes, unsure of most, and no two scores alike.

Drawn as other models are, their heads give what the layers before them make of it: over 90 classes nearly every score
is under 0.1, or, in a pyramid without normalisation, nearly every one is 0 or 1, boxes tie and each fills the picture.
So the layers that give scores and offsets are set by what they give for the first example, as a batch norm behind them
would do it: channel by channel to a spread, and scores moved until as many boxes as are wanted are sure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from builder.artifacts.stages import Preprocessing
from builder.model.detection.head import ReturnsPictures
from builder.model.detection.pyramids import shallow
from builder.model.sources.seeded import (
    LEAST_VALUES,
    LEAST_VARIANCE,
    in_float64,
    one_thread,
    round_to_bits,
)
from builder.model.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.faster_rcnn import FasterRCNN
    from torchvision.models.detection.ssd import SSD

    from builder.model.detection.pyramids import Detector

SPREAD = 2.0
"""Standard deviation of a class's logits over boxes: of those that are sure, scores reach from 0.5 to about 0.95."""
COMMON = 8
"""One class of so many has all of it and the others half, so that what is found is of few classes, and overlaps."""
SURE_BOXES, SURE_SHARE = 100, 0.1
"""How many pairs of box and class have a score over 0.5, or of few boxes which share at most."""
OBJECT_SPREAD = 1.0
"""Of the logits by which a first stage chooses its proposals, or a detector says how central a place is."""
OFFSET_SPREAD = 0.25
"""Of offsets, as shares of a box's size: neighbours of one class overlap, and few boxes are cut off by the edge."""


def preparation(module: Detector) -> Preprocessing:
    """What the transform inside a detector does to pictures, which goes into the artifact as for other models."""
    return Preprocessing(mean=tuple(module.transform.image_mean), std=tuple(module.transform.image_std))


class Untransformed(nn.Module):
    """A detector on normalised pictures (N, C, H, W), for the statistics of its layers."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = shallow(detector)
        self.detector._modules["transform"] = ReturnsPictures(detector.transform.size_divisible)

    def forward(self, pictures: Tensor) -> None:
        """Run all of it; what it finds is of no interest."""
        self.detector(list(pictures))


@dataclass(frozen=True, kw_only=True)
class _Aim:
    """What layers that belong together shall give."""

    layers: Sequence[Any]
    spread: Sequence[float]
    """Standard deviations, channel by channel and again from the first."""
    mean: float = 0.0
    classes: int | None = None
    """Of scores, how many each box has, the background with them."""
    background: bool = False
    """Whether the first is the background, and all of a box add up to 1."""


def spread_scores(detector: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Set the heads of a seeded detector in place, for normalised pictures; those of a first stage first."""
    for aims in _stages(detector):
        given = _outputs(detector, [layer for aim in aims for layer in aim.layers], inputs)
        for aim in aims:
            _reach(aim, given)


def _stages(module: object) -> list[list[_Aim]]:
    """What is aimed at, in the order in which it is computed; nothing for a detector of another kind."""
    kinds = import_torchvision().models.detection
    if isinstance(module, kinds.ssd.SSD):
        return [_ssd(module)]
    if isinstance(module, kinds.faster_rcnn.FasterRCNN):
        return _two_stages(module)
    if not isinstance(module, kinds.retinanet.RetinaNet | kinds.fcos.FCOS):
        return []
    classification, regression = module.head.classification_head, module.head.regression_head
    scores = _scores([classification.cls_logits], classification.num_classes)
    if isinstance(module, kinds.fcos.FCOS):
        centred = _Aim(layers=[regression.bbox_ctrness], spread=(OBJECT_SPREAD,), mean=1.0)
        distances = _Aim(layers=[regression.bbox_reg], spread=(OFFSET_SPREAD,), mean=1.0)  # in sizes of an anchor
        return [[scores, centred, distances]]
    return [[scores, _Aim(layers=[regression.bbox_reg], spread=_offsets(module.box_coder))]]


def _ssd(module: SSD) -> list[_Aim]:
    def last(head: Any) -> list[nn.Conv2d]:
        return [[layer for layer in level.modules() if isinstance(layer, nn.Conv2d)][-1] for level in head.module_list]

    head = module.head
    return [
        _scores(last(head.classification_head), head.classification_head.num_columns, background=True),
        _Aim(layers=last(head.regression_head), spread=_offsets(module.box_coder)),
    ]


def _two_stages(module: FasterRCNN) -> list[list[_Aim]]:
    proposing, predictor = module.rpn, module.roi_heads.box_predictor
    return [
        [
            _Aim(layers=[proposing.head.cls_logits], spread=(OBJECT_SPREAD,)),
            _Aim(layers=[proposing.head.bbox_pred], spread=_offsets(proposing.box_coder)),
        ],
        [
            _scores([predictor.cls_score], predictor.cls_score.out_features, background=True),
            _Aim(layers=[predictor.bbox_pred], spread=_offsets(module.roi_heads.box_coder)),
        ],
    ]


def _scores(layers: Sequence[nn.Conv2d | nn.Linear], classes: int, *, background: bool = False) -> _Aim:
    spread = tuple(SPREAD if index % COMMON == 1 else SPREAD / 2 for index in range(classes))
    return _Aim(layers=layers, spread=spread, classes=classes, background=background)


def _offsets(coder: BoxCoder) -> tuple[float, ...]:
    return tuple(OFFSET_SPREAD * float(weight) for weight in coder.weights)


def _outputs(detector: Detector, layers: Sequence[nn.Module], inputs: Sequence[Tensor]) -> Mapping[int, Tensor]:
    """What each layer gives on all its calls, in double precision; (values, channels), by the layer's id."""
    found: dict[int, list[Tensor]] = {id(layer): [] for layer in layers}

    def keep(layer: nn.Module, _given: object, output: Tensor) -> None:
        found[id(layer)].append(output.transpose(0, 1).flatten(1).T if output.ndim > 2 else output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.no_grad(), in_float64(detector), one_thread():
            Untransformed(detector).eval()(*(x.double() for x in inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return {key: torch.cat(outputs) for key, outputs in found.items()}


def _reach(aim: _Aim, given: Mapping[int, Tensor]) -> None:
    reached = [_standardise(layer, given[id(layer)], aim) for layer in aim.layers]
    if aim.classes is None:
        return
    shift = _shift(torch.cat([values.reshape(-1, aim.classes) for values in reached]), background=aim.background)
    with torch.no_grad():
        for layer in aim.layers:
            layer.bias.view(-1, aim.classes)[:, slice(0, 1) if aim.background else slice(None)] += shift


def _standardise(layer: Any, values: Tensor, aim: _Aim) -> Tensor:
    """Give each channel of `layer` its mean and spread; what it gives then."""
    channels = values.shape[1]
    if len(values) < LEAST_VALUES:
        mean, variance = values.mean().expand(channels), values.var(correction=0).expand(channels)
    else:
        mean, variance = values.mean(0), values.var(0, correction=0)
    deviation = torch.maximum(variance, LEAST_VARIANCE * variance.mean()).clamp(min=1e-24).sqrt()
    deviation = round_to_bits(deviation, deviation)
    mean = round_to_bits(mean, deviation)
    factor = torch.tensor(aim.spread).double().repeat(channels // len(aim.spread)) / deviation
    with torch.no_grad():
        layer.weight.mul_(factor.to(layer.weight.dtype).view(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.copy_((layer.bias - mean) * factor + aim.mean)
    return (values - mean) * factor + aim.mean


def _shift(logits: Tensor, *, background: bool) -> float:
    """What to add to logits (N, classes), or to those of the background, for as many as are wanted to be sure.

    A class is over one half where its logit is over 0, or with a background over the logarithm of all others' sum.
    """
    wanted = min(SURE_BOXES, max(1, math.floor(SURE_SHARE * len(logits))))
    if not background:
        margins = -logits.flatten()
    else:
        others, best = logits[:, 1:], logits[:, 1:].max(dim=1)
        rest = others.exp().sum(dim=1) - best.values.exp()
        room = (best.values.exp() - rest).clamp(min=1e-30).log()  # what the background may have
        margins = -(room - logits[:, 0])
    least = float(margins.kthvalue(wanted).values)
    value = least if not background else -least
    return float(round_to_bits(torch.tensor(value).double(), torch.tensor(SPREAD).double()))
