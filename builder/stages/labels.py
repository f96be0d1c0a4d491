"""The labels of a classifier: from the weights, a file or the recipe, as many as the model has classes."""

from __future__ import annotations

from pathlib import Path

import torch

from builder.artifacts import LoadedModel
from builder.errors import ConfigurationError, SourceError
from builder.spec.outputs import FROM_WEIGHTS, Classifier

KEY = "classifier.labels"


def find_labels(classifier: Classifier, loaded: LoadedModel, scores: torch.Tensor) -> tuple[str, ...]:
    """Return the label of each class of `scores` (1, classes), all distinct.

    Raises ConfigurationError when their number or the shape does not fit, or a file has one twice, SourceError when a
    file cannot be read.
    """
    if scores.ndim != 2 or scores.shape[0] != 1 or not scores.is_floating_point():
        raise ConfigurationError(
            f"a classifier's first output is a float array of shape (1, classes), and this model's is "
            f"{str(scores.dtype).removeprefix('torch.')} of {tuple(scores.shape)}",
            key="classifier",
        )
    labels, where = _read(classifier, loaded)
    if len(labels) != scores.shape[-1]:
        raise ConfigurationError(f"{len(labels)} labels{where} for {scores.shape[-1]} classes of the model", key=KEY)
    return _distinct(labels)


def _read(classifier: Classifier, loaded: LoadedModel) -> tuple[tuple[str, ...], str]:
    """The labels, and where they are from, for people."""
    given = classifier.labels
    if isinstance(given, list):
        return tuple(given), ""
    if given == FROM_WEIGHTS:
        if loaded.labels is None:
            raise ConfigurationError("the weights publish no labels", key=KEY)
        return loaded.labels, " from the weights"
    lines = _lines(Path(given))
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    _refuse_equal(given, numbered)
    labels = tuple(label for _, label in numbered)
    empty = len(lines) - len(labels)
    return labels, f" in {given}" + (f" (without {empty} empty line{'s' if empty > 1 else ''})" if empty else "")


def _lines(file: Path) -> list[str]:
    """The lines of a text file; a byte order mark, and the end of the last line, count for nothing."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"the labels in {file} cannot be read: {error.strerror or error}", key=KEY) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{file}:{line} is not UTF-8 text (byte 0x{error.object[error.start]:02x})",
            hint=f"convert it: iconv -f latin1 -t utf-8 {file.name}",
            key=KEY,
        ) from error
    if "\0" in text:
        raise SourceError(f"{file} is not a text file: it holds zero bytes", key=KEY)
    return text.removesuffix("\n").split("\n")


def _refuse_equal(file: str, numbered: list[tuple[int, str]]) -> None:
    """Refuse labels that an app could not tell apart, as those of a list are (`builder.spec.outputs`)."""
    first: dict[str, int] = {}
    again = [(number, label) for number, label in numbered if first.setdefault(label, number) != number]
    if again:
        listed = ", ".join(f"line {number} is `{label}`, as line {first[label]} is" for number, label in again[:3])
        more = f", and {len(again) - 3} more" if len(again) > 3 else ""
        raise ConfigurationError(
            f"labels in {file} are there twice: {listed}{more}",
            hint="Core ML needs one label for each class, all different",
            key=KEY,
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
