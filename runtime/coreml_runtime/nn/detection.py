"""NeuralNetwork's layer of non-maximum suppression, by MIL's kernel."""

from torch import Tensor

from coreml_runtime.nn.layer import Binder, Kernel, Layer
from coreml_runtime.nn.mil import mil_context
from coreml_runtime.ops.nms import non_maximum_suppression as kernel


def non_maximum_suppression(layer: Layer) -> Kernel:
    """Boxes (B, N, 4) and scores (B, N, C); thresholds and the number of boxes may be further inputs."""
    p = layer.parameters
    iou, score, count, per_class = p.iouThreshold, p.scoreThreshold, int(p.maxBoxes), p.perClassSuppression
    context = mil_context(4)

    def run(boxes: Tensor, scores: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        outputs = kernel(
            boxes=boxes,
            scores=scores,
            iou_threshold=given[0].item() if given else iou,
            score_threshold=given[1].item() if len(given) > 1 else score,
            max_boxes=int(given[2].item()) if len(given) > 2 else count,
            per_class_suppression=per_class,
            context=context,
        )
        return tuple(output.float() for output in outputs)

    return run


LAYERS: dict[str, Binder] = {"NonMaximumSuppression": non_maximum_suppression}
