"""A detector's candidates and the boxes that it keeps are those of the original, post-processing included."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from builder.artifacts.checks import CheckedOutput, CheckedPicture, CheckReport
from builder.artifacts.stages import Sample
from builder.checks.comparison import Outputs, describe, judge
from builder.checks.engine import Execute
from builder.checks.limits import boxes_limits, parity_limits
from builder.checks.subject import Subject
from builder.model.detection.boxes import to_corners
from builder.model.detection.kept import Detections, described, read_kept
from builder.spec.base import Limit
from builder.spec.checks import ParityCheck
from builder.spec.detection_names import CANDIDATES, DETECTED

SAME_PLACE, SAME_EDGE = 0.9, 0.002
"""Two boxes count as one over this intersection over union: other rounding moves edges by far less. Or where no edge
is further away than this share of the picture, a pixel of 500: boxes cut off by an edge of it may have no area."""
ROWS = 128
"""How many rows are compared with all others at once: there may be some thousands of each."""
PICTURES, BOXES = 2, 4
"""How many samples the report shows, and how many boxes it tells."""
DRAWN, COLOUR = 20, (255, 64, 64)
"""How many boxes it draws."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    sample: Sample
    original: Detections
    artifact: Detections
    sure: int
    """How many candidates of the original are over the threshold, of twice as many as the artifact has."""


def check_detections(
    name: str, check: ParityCheck, subject: Subject, samples: Sequence[Sample], engine: str, execute: Execute
) -> CheckReport:
    """Compare the candidates row by row, and what is kept of them with what the original's own code keeps."""
    stage, deployed = subject.prepared.suppression, cast(Any, subject.prepared.uncompressed)
    assert stage is not None, "only a detector has boxes to keep"
    references, results, seen = [], [], []
    with subject.progress.bar(f"{name} ({engine})", len(samples), unit="it") as advance:
        for sample in samples:
            given = execute(sample)
            (picture,) = sample.tensors.values()
            with torch.no_grad():
                wanted, original = deployed.more_candidates(picture), deployed.original(picture, stage)
            reference, result = aligned(wanted, given)
            references.append(reference)
            results.append(result)
            artifact = read_kept(*(given[output] for output in DETECTED))
            sure = int((wanted[CANDIDATES[0]].amax(1) >= stage.confidence_threshold).sum())
            seen.append(_Seen(sample=sample, original=original, artifact=artifact, sure=sure))
            advance(1)
    report = judge(
        name=name,
        kind=check.kind,
        engine=engine,
        references=references,
        results=results,
        scores=None,
        limits=parity_limits(subject.spec, check),
    )
    report = _with_boxes(report, seen, boxes_limits(subject.spec, check, proposals=deployed.detect.decides_twice))
    if report.passed is False and (message := _too_few(subject, seen)):
        report = replace(report, reason=f"{report.reason}; {message}")
    return replace(report, pictures=tuple(_picture(subject, one, engine) for one in seen[:PICTURES]))


def aligned(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[Outputs, Outputs]:
    """Candidates of the artifact, and beside each the original's of the same class that is nearest to it.

    Rows are sorted by score, so rounding lets neighbours change places, and others come in at the end. Where the
    original has none of that class, zeros stand in its place.
    """
    expected = [wanted[name].double() for name in CANDIDATES]
    got = [given[name].double() for name in CANDIDATES]
    expected_best, expected_class = expected[0].max(dim=1)
    best, classes = got[0].max(dim=1)
    nearest = [
        _nearest(box, score, kind, expected[1], expected_best, expected_class)
        for box, score, kind in zip(*(torch.split(rows, ROWS) for rows in (got[1], best, classes)), strict=True)
    ]
    places, known = (torch.cat(parts) for parts in zip(*nearest, strict=True))
    found = best > 0  # all others only fill up
    scores = torch.where(known & found, expected_best[places], 0.0)
    boxes = torch.where((known & found)[:, None], expected[1][places], 0.0)
    best, shown = torch.where(found, best, 0.0), torch.where(found[:, None], got[1], 0.0)
    names = DETECTED
    return dict(zip(names, (scores, boxes), strict=True)), dict(zip(names, (best, shown), strict=True))


def _nearest(
    boxes: Tensor, scores: Tensor, classes: Tensor, among: Tensor, their_scores: Tensor, their_classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Which row of others is nearest to each in box and score, and whether there is one of its class at all."""
    distance = (boxes[:, None] - among[None]).abs().amax(-1) + (scores[:, None] - their_scores[None]).abs()
    distance = distance.masked_fill(classes[:, None] != their_classes[None], float("inf"))
    nearest = torch.nan_to_num(distance, nan=float("inf"), posinf=float("inf")).min(dim=1)
    return nearest.indices, nearest.values.isfinite()


def matches(one: Detections, other: Detections) -> int:
    """How many boxes both keep: pairs of one class on the same place, each box in one pair at most."""
    mine, theirs = to_corners(one.boxes.double()), to_corners(other.boxes.double())
    near = (mine[:, None] - theirs[None]).abs().amax(-1) <= SAME_EDGE
    overlaps = torch.where(near, 1.0, _overlaps(mine, theirs))
    overlaps = overlaps.masked_fill(one.classes[:, None] != other.classes[None], 0.0)
    count = 0
    for row in overlaps:
        if row.numel() and float(row.max()) >= SAME_PLACE:
            overlaps[:, int(row.argmax())] = 0.0  # `row` is a view: this box is taken for the rows that follow
            count += 1
    return count


def _overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of each of (N, 4) with each of (M, 4) corners; 0 where neither has an area."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    either = _areas(one)[:, None] + _areas(other)[None] - both
    return torch.where(either > 0, both / either, 0.0)


def _areas(corners: Tensor) -> Tensor:
    return (corners[:, 2:] - corners[:, :2]).prod(-1)


def _with_boxes(report: CheckReport, seen: Sequence[_Seen], limits: Mapping[str, Limit]) -> CheckReport:
    """The report with what is kept: the worst share over all samples in which either keeps a box."""
    counts = [(matches(s.original, s.artifact), len(s.original.scores), len(s.artifact.scores)) for s in seen]
    shares = [2 * both / (mine + theirs) for both, mine, theirs in counts if mine + theirs]
    measured: dict[str, Any] = {
        "boxes_of_original": sum(mine for _, mine, _ in counts),
        "boxes_of_artifact": sum(theirs for _, _, theirs in counts),
    }
    failure = None
    if not shares:
        reason = "boxes: neither keeps any, so agreement would prove nothing; lower confidence_threshold"
        measured["not_meaningful"] = reason
        return replace(
            report,
            values={**report.values, "boxes": measured},
            passed=None if report.passed else report.passed,
            reason=report.reason or f"not meaningful: {reason}",
        )
    measured = {"boxes_matched": min(shares), **measured}
    for measure, limit in limits.items():
        if not limit.holds(measured[measure]):
            failure = f"boxes: {measure} is {measured[measure]:.4g}, and the limit is {describe(limit)}"
    allowed = {measure: limit.model_dump(exclude_none=True) for measure, limit in limits.items()}
    return replace(
        report,
        values={**report.values, "boxes": measured},
        limits={**report.limits, **allowed},
        passed=False if failure else report.passed,
        reason="; ".join(filter(None, (report.reason, failure))) or None,
    )


def _too_few(subject: Subject, seen: Sequence[_Seen]) -> str | None:
    detection = subject.spec.detection
    assert detection is not None, "only a detector has candidates"
    most = max(one.sure for one in seen)
    if most <= detection.candidates:
        return None
    return (
        f"more pairs of box and class than detection.candidates ({detection.candidates}) are over the threshold: raise "
        "it, or detection.confidence_threshold"
    )


def _picture(subject: Subject, seen: _Seen, engine: str) -> CheckedPicture:
    """The picture with the boxes of both drawn into it."""
    labels = subject.prepared.labels or ()
    ((name, given),) = seen.sample.given.items()
    assert isinstance(given, Image.Image), "a detector with suppression takes a picture"
    shown = given.convert("RGB")
    boxes = CheckedOutput(
        name="boxes",
        reference=described(seen.original, labels, BOXES),
        artifact=described(seen.artifact, labels, BOXES),
        reference_png=_drawn(shown, seen.original),
        artifact_png=_drawn(shown, seen.artifact),
    )
    return CheckedPicture(
        input=name, png=_png(shown), label=None, reference_top=(), artifact_top=(), engine=engine, outputs=(boxes,)
    )


def _drawn(picture: Image.Image, kept: Detections) -> bytes:
    canvas = picture.copy()
    pen = ImageDraw.Draw(canvas)
    width, height = canvas.size
    for left, top, right, bottom in to_corners(kept.boxes[:DRAWN].double()).tolist():
        pen.rectangle((left * width, top * height, right * width, bottom * height), outline=COLOUR)
    return _png(canvas)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
