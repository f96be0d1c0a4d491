"""The labels of a classifier or detector: from the weights, a file or the recipe, one for each of its classes."""

from __future__ import annotations

from pathlib import Path

import torch

from builder.artifacts.stages import LoadedModel
from builder.errors import ConfigurationError, SourceError
from builder.spec.detection import Detection
from builder.spec.outputs import FROM_WEIGHTS, Classifier
from builder.util.reading import read_regular


def find_labels(classifier: Classifier, loaded: LoadedModel, scores: torch.Tensor) -> tuple[str, ...]:
    """Return the label of each class of `scores` (1, classes), all distinct.

    Raises ConfigurationError when their number or the shape does not fit, or a file has one twice, SourceError when a
    file cannot be read.
    """
    if scores.ndim != 2 or scores.shape[0] != 1 or not scores.is_floating_point():
        raise ConfigurationError(
            f"a classifier's first output is a float array of shape (1, classes), and this model's is "
            f"{str(scores.dtype).removeprefix('torch.')} of {tuple(scores.shape)}",
            code="B0250",
            key="classifier",
        )
    key = "classifier.labels"
    labels, where = _read(classifier.labels, loaded, key)
    _check_count(labels, where, scores.shape[-1], key)
    return _distinct(labels)


def read_object_labels(detection: Detection, loaded: LoadedModel) -> tuple[str, ...]:
    """Return a detector's labels; raises as `find_labels` does."""
    return _read(detection.labels, loaded, "detection.labels")[0]


def check_object_labels(detection: Detection, labels: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """Return the label of each of a detector's classes, all distinct; those of weights may begin with the background.

    Raises ConfigurationError when their number does not fit.
    """
    if detection.labels == FROM_WEIGHTS and len(labels) == classes + 1:
        labels = labels[1:]
    where = f" in {detection.labels}" if isinstance(detection.labels, str) and detection.labels != FROM_WEIGHTS else ""
    _check_count(labels, where, classes, "detection.labels")
    return _distinct(labels)


def _check_count(labels: tuple[str, ...], where: str, classes: int, key: str) -> None:
    if len(labels) != classes:
        raise ConfigurationError(
            f"{len(labels)} labels{where} for {classes} classes of the model", code="B0261", key=key
        )


def _read(given: str | list[str], loaded: LoadedModel, key: str) -> tuple[tuple[str, ...], str]:
    """The labels, and where they are from, for people."""
    if isinstance(given, list):
        return tuple(given), ""
    if given == FROM_WEIGHTS:
        if loaded.labels is None:
            raise ConfigurationError("the weights publish no labels", code="B0261", key=key)
        return loaded.labels, " from the weights"
    lines = _lines(Path(given), key)
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    _refuse_equal(given, numbered, key)
    labels = tuple(label for _, label in numbered)
    empty = len(lines) - len(labels)
    return labels, f" in {given}" + (f" (without {empty} empty line{'s' if empty > 1 else ''})" if empty else "")


def _lines(file: Path, key: str) -> list[str]:
    """The lines of a text file; a byte order mark, and the end of the last line, count for nothing."""
    try:
        text = read_regular(file).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise SourceError(
            f"the labels in {file} cannot be read: {error.strerror or error}", code="B0301", key=key
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{file}:{line} is not UTF-8 text (byte 0x{error.object[error.start]:02x})",
            code="B0302",
            hint=f"convert it: iconv -f latin1 -t utf-8 {file.name}",
            key=key,
        ) from error
    if "\0" in text:
        raise SourceError(f"{file} is not a text file: it holds zero bytes", code="B0302", key=key)
    return text.removesuffix("\n").split("\n")


def _refuse_equal(file: str, numbered: list[tuple[int, str]], key: str) -> None:
    """Refuse labels that an app could not tell apart, as those of a list are (`builder.spec.outputs`)."""
    first: dict[str, int] = {}
    again = [(number, label) for number, label in numbered if first.setdefault(label, number) != number]
    if again:
        listed = ", ".join(f"line {number} is `{label}`, as line {first[label]} is" for number, label in again[:3])
        more = f", and {len(again) - 3} more" if len(again) > 3 else ""
        raise ConfigurationError(
            f"labels in {file} are there twice: {listed}{more}",
            code="B0261",
            hint="Core ML needs one label for each class, all different",
            key=key,
        )


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Core ML needs distinct labels; ImageNet has two cranes and two maillots: the later ones get their index."""
    seen: set[str] = set()
    result = []
    for index, label in enumerate(labels):
        own = label
        while own in seen or (own != label and own in labels):
            own = f"{own} ({index})"
        seen.add(own)
        result.append(own)
    return tuple(result)
