"""torchvision imports beside a torch that its compiled operators were not built for, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from builder.torchvision_import import import_torchvision, non_maximum_suppression


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_it_imports_neither_data_sets_nor_the_compiler_until_they_are_used() -> None:
    # given a fresh process, when torchvision is imported and a data set is then asked for
    said = _run(
        "import sys\n"
        "from builder.torchvision_import import import_torchvision\n"
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
