"""torchvision imports beside a torch that its compiled operators were not built for, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from builder.model.torchvision_import import import_torchvision
from builder.model.torchvision_operators import non_maximum_suppression, roi_align


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_it_imports_neither_data_sets_nor_the_compiler_until_they_are_used() -> None:
    # given a fresh process, when torchvision is imported and a data set is then asked for
    said = _run(
        "import sys\n"
        "from builder.model.torchvision_import import import_torchvision\n"
        "torchvision = import_torchvision()\n"
        "print('torch._dynamo' in sys.modules, 'torchvision.datasets.mnist' in sys.modules)\n"
        "import torchvision.datasets\n"
        "print(torchvision.datasets.MNIST.__module__, type(torchvision.datasets).__name__)\n"
        "import torch._dynamo.utils\n"
        "print(torch._dynamo.utils.is_compile_supported.__module__)\n"
    )
    # then they come when they are used, and they are the real ones
    assert said.splitlines() == ["False False", "torchvision.datasets.mnist module", "torch._dynamo.utils"]


def test_nms_keeps_the_best_of_boxes_that_overlap() -> None:
    # given two boxes that overlap by 0.68, one apart from them, and one within the threshold of the best
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 5, 10, 15]], dtype=torch.float32)
    scores = torch.tensor([0.8, 0.9, 0.1, 0.7])
    # when they are suppressed above one half
    kept = non_maximum_suppression(boxes, scores, 0.5)
    # then the best of the two stays, best first
    assert kept.tolist() == [1, 3, 2]
    assert non_maximum_suppression(boxes[:0], scores[:0], 0.5).shape == (0,)
    assert kept.dtype == torch.int64


def test_nms_agrees_with_its_definition() -> None:
    # given many boxes at random
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=generator)
    boxes = torch.cat([corner, corner + 0.1 + 0.4 * torch.rand(60, 2, generator=generator)], dim=1)
    scores = torch.rand(60, generator=generator)
    iou = import_torchvision().ops.box_iou(boxes, boxes)
    # when greedy suppression is written down as its definition
    left = scores.argsort(descending=True).tolist()
    expected = []
    while left:
        best = left.pop(0)
        expected.append(best)
        left = [other for other in left if iou[best, other] <= 0.3]
    # then the operator that torchvision calls gives the same
    assert import_torchvision().ops.nms(boxes, scores, 0.3).tolist() == expected


def test_a_detection_model_runs(recwarn: pytest.WarningsRecorder) -> None:
    # given a detector whose boxes go through nms
    detection = import_torchvision().models.detection
    torch.manual_seed(0)
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3).eval()
    # when it sees a picture
    with torch.no_grad():
        (found,) = model([torch.rand(3, 64, 64)])
    # then it finds something, each with a box
    assert len(found["boxes"]) == len(found["scores"]) > 0


def boxes_in(count: int, seed: int, low: float, high: float) -> torch.Tensor:
    """Boxes (N, 5) of two pictures, whose corners lie from `low` to `high`."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values * (high - low) + low
    return torch.cat([torch.randint(0, 2, (count, 1), generator=generator).float(), corners.flatten(1)], dim=1)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [2, 0])
def test_features_of_boxes_agree_with_torchvisions_formula(ratio: int, aligned: bool) -> None:
    """Its formula in Python, before it compiles it; of boxes inside, since it is wrong further than a pixel outside."""
    import_torchvision()
    formula = sys.modules["torchvision.ops.roi_align"]._roi_align.__wrapped__  # type: ignore[attr-defined]  # torch.compile keeps it
    maps = torch.randn(2, 3, 9, 12, generator=torch.Generator().manual_seed(1))
    settings = (0.5, 3, 2, ratio, aligned)
    rois = boxes_in(40, 2, 0.5, 16)
    torch.testing.assert_close(roi_align(maps, rois, *settings), formula(maps, rois, *settings), rtol=1e-4, atol=1e-5)
    assert import_torchvision().ops.roi_align(maps, rois[:0], (3, 2)).shape == (0, 3, 3, 2)


def test_features_outside_of_a_map_are_those_of_the_compiled_operator() -> None:
    """Of a map of ones the mean says which samples count: up to one pixel outside (roi_align_common.h)."""
    ones = torch.ones(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 3.0, 0.0, 3.5, 2.0], [0.0, 4.0, 1.0, 4.5, 2.0], [0.0, -2.0, 0.0, 2.0, 4.0]])
    # samples along x from 3.125, from 4.125, and -1.75, -1.25, …, 1.75
    samples = [[3.125, 3.375, 3.625, 3.875], [4.125, 4.375, 4.625, 4.875], [-1.5, -0.5, 0.5, 1.5]]
    expected = [sum(-1 <= place <= 4 for place in row) / 4 for row in samples]
    found = roi_align(ones, rois, 1.0, 1, 1, 4, False)
    assert found.flatten().tolist() == expected
