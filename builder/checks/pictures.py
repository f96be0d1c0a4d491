"""The pictures that a check used, with what both models said of them, for the report."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from builder.artifacts.checks import CheckedOutput, CheckedPicture
from builder.artifacts.stages import Sample
from builder.checks.subject import Subject
from builder.spec.outputs import ImageOutput, Output

BEST, FIRST = 5, 4
"""How many classes, or values of an array, the report shows."""


def checked_picture(
    subject: Subject,
    sample: Sample,
    reference: Mapping[str, torch.Tensor],
    result: Mapping[str, torch.Tensor],
    engine: str,
) -> list[CheckedPicture]:
    """One entry for each image input of the sample; the best classes are there for classifiers only."""
    labels, scores = subject.prepared.labels, subject.scores
    outputs = tuple(
        _output(name, subject.spec.output.get(name), reference[name], result[name])
        for name in subject.prepared.output_names
        if name != scores or not labels
    )
    return [
        CheckedPicture(
            input=name,
            png=_png(given),
            label=_name(sample.label, labels),
            reference_top=_best(reference[scores], labels) if scores and labels else (),
            artifact_top=_best(result[scores], labels) if scores and labels else (),
            engine=engine,
            outputs=outputs,
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


def _output(name: str, declared: Output | None, reference: torch.Tensor, result: torch.Tensor) -> CheckedOutput:
    if not isinstance(declared, ImageOutput):
        return CheckedOutput(name=name, reference=_words(reference), artifact=_words(result))
    return CheckedOutput(
        name=name,
        reference=_levels(reference),
        artifact=_levels(result),
        reference_png=_picture(reference, declared),
        artifact_png=_picture(result, declared),
    )


def _picture(levels: torch.Tensor, declared: ImageOutput) -> bytes:
    """Levels of 0 to 255 as float32 (1, C, H, W), as PNG."""
    whole = levels[0].clamp(0, 255).round().to(torch.uint8)
    ordered = whole.flip(0) if declared.color_layout == "BGR" else whole
    array = ordered.permute(1, 2, 0).numpy()
    return _png(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))


def _levels(levels: torch.Tensor) -> str:
    return f"levels {float(levels.min()):.1f} to {float(levels.max()):.1f}"


def _words(values: torch.Tensor) -> str:
    flat = values.flatten().tolist()
    numbers = ", ".join(f"{value:.4g}" for value in flat[:FIRST]) + (", …" if len(flat) > FIRST else "")
    shape = " × ".join(str(size) for size in values.shape)
    return f"{shape} from {min(flat):.4g} to {max(flat):.4g}: {numbers}" if flat else f"{shape}: empty"


def _best(scores: torch.Tensor, labels: Sequence[str]) -> tuple[tuple[str, float], ...]:
    values, indices = scores.flatten().topk(min(BEST, len(labels)))
    return tuple((labels[i], float(v)) for v, i in zip(values.tolist(), indices.tolist(), strict=True))
