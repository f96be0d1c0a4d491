"""The pictures that a check used, with what both models said of them, for the report."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from builder.artifacts import CheckedPicture, Sample
from builder.checks.subject import Subject

BEST = 5


def checked_picture(
    subject: Subject,
    sample: Sample,
    reference: Mapping[str, torch.Tensor],
    result: Mapping[str, torch.Tensor],
    engine: str,
) -> list[CheckedPicture]:
    """One entry for each image input of the sample; the best classes are there for classifiers only."""
    labels, scores = subject.prepared.labels, subject.scores
    return [
        CheckedPicture(
            input=name,
            png=_png(given),
            label=_name(sample.label, labels),
            reference_top=_best(reference[scores], labels) if scores and labels else (),
            artifact_top=_best(result[scores], labels) if scores and labels else (),
            engine=engine,
        )
        for name, given in sample.given.items()
        if isinstance(given, Image.Image)
    ]


def _name(label: str | int | None, labels: Sequence[str] | None) -> str | None:
    known = isinstance(label, int) and labels is not None and 0 <= label < len(labels)
    return labels[label] if known else None if label is None else str(label)  # type: ignore[index]


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    (picture.convert("L") if picture.mode == "F" else picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _best(scores: torch.Tensor, labels: Sequence[str]) -> tuple[tuple[str, float], ...]:
    values, indices = scores.flatten().topk(min(BEST, len(labels)))
    return tuple((labels[i], float(v)) for v, i in zip(values.tolist(), indices.tolist(), strict=True))
