"""The operator of ours for detectors of two stages (`builder/model/detection/suppress.py`) as MIL's own suppression."""

from __future__ import annotations

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var


def suppress(mb: Builder, boxes: Var, scores: Var, iou_threshold: float, most: int) -> Var:
    """Which of boxes (N, 4) stay, the best first: `most` indices, -1 where there are fewer."""
    center, size = _center_size(mb, boxes)
    boxes = mb.expand_dims(x=mb.concat(values=[center, size], axis=1), axes=[0])
    scores = mb.expand_dims(x=scores, axes=[0, 2])
    if _since_ios17():
        boxes, scores = (mb.transpose(x=x, perm=[0, 2, 1]) for x in (boxes, scores))
        found = mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=_exceeded(boxes, iou_threshold, at=True), max_boxes=most
        )
    else:
        found = mb.non_maximum_suppression(
            boxes=boxes,
            scores=scores,
            iou_threshold=_exceeded(boxes, iou_threshold, at=False),
            score_threshold=_type(boxes)(-1.0),
            max_boxes=most,
        )
    return mb.squeeze(x=found[2], axes=[0])


def _center_size(mb: Builder, boxes: Var) -> tuple[Var, Var]:
    low, high = mb.split(x=boxes, num_splits=2, axis=1)
    half = _type(boxes)(0.5)
    size = mb.sub(x=high, y=low)
    return mb.add(x=low, y=mb.mul(x=size, y=half)), size


def _exceeded(boxes: Var, threshold: float, *, at: bool) -> object:
    """The threshold as a number of the boxes' type, for an overlap of that type to go where it exceeds `threshold`.

    Since iOS17 a box goes that overlaps by as much as the threshold (`at`), before that by more, as in torch.
    """
    import numpy as np

    kind = _type(boxes)
    near = kind(threshold)
    if at:
        return near if float(near) > threshold else np.nextafter(near, kind(np.inf))
    return near if float(near) <= threshold else np.nextafter(near, kind(-np.inf))


def _type(x: Var) -> type:
    from coremltools.converters.mil.mil import types

    kind: type = types.nptype_from_builtin(x.dtype)
    return kind


def _since_ios17() -> bool:
    import coremltools as ct
    from coremltools.converters.mil.frontend.torch.ops import is_current_opset_version_compatible_with

    return bool(is_current_opset_version_compatible_with(ct.target.iOS17))


DETECTION = (
    Lowering(operator="builder::suppress", lower=suppress),  # as a trace calls it
    Lowering(operator="builder.suppress", lower=suppress),  # and an exported program
)
