"""Which boxes count as the same, and which candidate of the original belongs to one of the artifact."""

from __future__ import annotations

import torch

from builder.artifacts.stages import Suppression
from builder.checks.detections import aligned, matches
from builder.model.detection.kept import Detections, keep_best, read_kept


def kept(*boxes: tuple[float, float, float, float, int]) -> Detections:
    return Detections(
        boxes=torch.tensor([box[:4] for box in boxes]).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.5, len(boxes)),
        classes=torch.tensor([int(box[4]) for box in boxes], dtype=torch.int64),
    )


ONE, OTHER = (0.5, 0.5, 0.2, 0.2, 0), (0.2, 0.2, 0.1, 0.3, 1)


def test_the_same_boxes_in_another_order_match() -> None:
    assert matches(kept(ONE, OTHER), kept(OTHER, ONE)) == 2


def test_another_class_and_another_place_do_not() -> None:
    assert matches(kept(ONE), kept((*ONE[:4], 1))) == 0
    assert matches(kept(ONE), kept((0.52, 0.5, 0.2, 0.2, 0))) == 0
    assert matches(kept(ONE), kept((0.503, 0.5, 0.2, 0.2, 0))) == 1
    assert matches(kept(ONE), kept()) == 0
    assert matches(kept(), kept(ONE)) == 0


def test_each_box_matches_once() -> None:
    assert matches(kept(ONE, ONE), kept(ONE)) == 1
    assert matches(kept(ONE), kept(ONE, ONE)) == 1
    assert matches(kept(ONE, ONE), kept(ONE, ONE)) == 2


def test_boxes_without_an_area_match_by_their_edges() -> None:
    assert matches(kept((1.0, 0.5, 0.0, 0.2, 0)), kept((1.0, 0.5001, 0.0, 0.2, 0))) == 1
    assert matches(kept((1.0, 0.5, 0.0, 0.2, 0)), kept((1.0, 0.51, 0.0, 0.2, 0))) == 0


def rows(*entries: tuple[int, float, float]) -> dict[str, torch.Tensor]:
    """Candidates of two classes: (class, score, place)."""
    confidence = torch.zeros(len(entries), 2)
    for index, (c, score, _) in enumerate(entries):
        confidence[index, c] = score
    places = torch.tensor([[place] * 4 for _, _, place in entries])
    return {"raw_confidence": confidence, "raw_coordinates": places}


def test_candidates_are_found_wherever_they_are_in_the_order() -> None:
    wanted = rows((0, 0.9, 0.1), (1, 0.8, 0.5), (1, 0.79, 0.7), (0, 0.5, 0.3))
    # given neighbours that changed places, and one that is wrong by 0.05
    reference, result = aligned(wanted, rows((0, 0.9, 0.1), (1, 0.791, 0.7), (1, 0.799, 0.55)))
    torch.testing.assert_close(reference["confidence"], torch.tensor([0.9, 0.79, 0.8], dtype=torch.float64))
    assert reference["coordinates"][:, 0].tolist() == wanted["raw_coordinates"][[0, 2, 1], 0].tolist()
    assert abs(float((reference["coordinates"] - result["coordinates"]).abs().max()) - 0.05) < 1e-6


def test_a_candidate_of_a_class_that_the_original_lacks_is_held_against_nothing() -> None:
    reference, result = aligned(rows((0, 0.9, 0.1)), rows((0, 0.9, 0.1), (1, 0.7, 0.1)))
    assert reference["confidence"].tolist()[1] == 0.0
    assert result["confidence"].tolist()[1] > 0.6


def test_a_nan_stays_one() -> None:
    _, result = aligned(rows((0, 0.9, 0.1)), rows((0, 0.9, float("nan"))))
    assert result["coordinates"].isnan().any()


def test_suppression_of_torchvision_is_the_reference() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1]])
    scores = torch.tensor([[0.6, 0.0], [0.9, 0.0], [0.0, 0.5], [0.2, 0.0]])
    stage = Suppression(iou_threshold=0.5, confidence_threshold=0.3, detections=10)
    found = keep_best(boxes, scores, stage)
    assert found.classes.tolist() == [0, 1]
    assert torch.equal(found.boxes, boxes[[1, 2]])
    again = read_kept(scores[[1, 2]], boxes[[1, 2]])
    assert matches(found, again) == 2
