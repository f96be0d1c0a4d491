"""A compression for each layer: the smallest artifact that passes all checks, or the best one below a size.

Every method is tried on all weights at once; the best of these is what the answer has to beat. From the sensitivity of
layers follows a path of mixtures, of which some are built and checked: as far along it as the checks pass, or until it
is small enough. Nothing but an artifact that was built and checked is an answer, and uniform methods are among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.artifacts.stored import MeasuredLayers
from builder.auto.allocation import Allocation, Cost, path
from builder.auto.attempts import Candidate
from builder.auto.options import NONE, Steps, by_option, composed, options
from builder.errors import ConversionError
from builder.spec.compression import AutoCompression, WeightCompression
from builder.spec.target import Target
from builder.util.text import first_of

Trying = Callable[[str, Mapping[str, WeightCompression]], Candidate]
Measuring = Callable[[Candidate, Mapping[str, Candidate]], MeasuredLayers]
"""Returns what `builder.auto.sensitivity` measures, from the store where it is known."""


@dataclass(frozen=True, kw_only=True)
class CompressionChoice:
    """Steps, in words too, and what could not be met or used."""

    steps: Mapping[str, WeightCompression]
    summary: str
    notes: tuple[str, ...] = ()


def choose_compression(auto: AutoCompression, target: Target, attempt: Trying, measure: Measuring) -> CompressionChoice:
    """Find the steps. Where nothing passes, none are taken, so that the checks say by how much it misses.

    Raises ConversionError where nothing is as small as `max_bytes`.
    """
    plain = attempt(NONE, {})
    if auto.max_bytes is None and not plain.passes:
        note = "compression auto: the artifact does not pass the checks without any compression"
        return CompressionChoice(steps={}, summary="no compression", notes=(note,))
    given = options(auto, target)
    uniform, notes = _tried(given, attempt)
    found = [plain, *uniform.values()]
    mixtures = _Mixtures(measure(plain, uniform)["layers"], given, attempt) if uniform else None
    if auto.max_bytes is None:
        found += _smallest_mixtures(mixtures, found) if mixtures else []
        best = min((each for each in found if each.passes), key=lambda each: each.bytes)
    else:
        found += _small_mixtures(mixtures, auto.max_bytes) if mixtures else []
        fitting = [each for each in found if each.bytes <= auto.max_bytes]
        if not fitting:
            raise _too_large(found, auto.max_bytes)
        best = max(fitting, key=lambda each: (each.snr_db, -each.bytes))
    steps: Any = best.spec.program_compression  # of weights alone, since only such steps were tried
    return CompressionChoice(steps=steps, summary=_said(best), notes=tuple(notes))


def _tried(given: Mapping[str, Steps], attempt: Trying) -> tuple[dict[str, Candidate], list[str]]:
    """Every method on all weights, and why some could not be tried."""
    found: dict[str, Candidate] = {}
    notes = []
    for option, steps in given.items():
        try:
            found[option] = attempt(f"{option} for all layers", steps)
        except ConversionError as error:
            notes.append(f"compression auto: {option} was not used: {error.message}")
    return found, notes


class _Mixtures:
    """The path of mixtures, from no compression to the smallest artifact."""

    def __init__(self, layers: Any, given: Mapping[str, Steps], attempt: Trying) -> None:
        self._weights = [layer["weights"] for layer in layers]
        self._given = given
        self._attempt = attempt
        self._costs = [
            {option: Cost(bytes=size, noise=noise) for option, (size, noise) in layer["costs"].items()}
            for layer in layers
        ]
        self.path = path(self._costs, NONE)

    def saved(self, place: int) -> int:
        """How many bytes of weights a mixture saves, as the layers were measured."""
        return sum(c[NONE].bytes - c[o].bytes for c, o in zip(self._costs, self.path[place], strict=True))

    def build(self, place: int) -> Candidate:
        """Build and check a mixture."""
        allocation: Allocation = self.path[place]
        weights = by_option(zip(allocation, self._weights, strict=True))
        return self._attempt(f"mixture {place} of {len(self.path) - 1}", composed(self._given, weights))


def _smallest_mixtures(mixtures: _Mixtures, others: list[Candidate]) -> Iterator[Candidate]:
    """What is built on the way to the last mixture that passes; what cannot beat the others is not built."""
    plain = others[0]
    least = min(each.bytes for each in others if each.passes)
    passed = max((p for p in range(len(mixtures.path)) if plain.bytes - mixtures.saved(p) > least), default=0)
    failed = len(mixtures.path)
    while failed - passed > 1:
        middle = (passed + failed) // 2
        candidate = mixtures.build(middle)
        yield candidate
        if candidate.passes:
            passed = middle
        else:
            failed = middle


def _small_mixtures(mixtures: _Mixtures, most: int) -> Iterator[Candidate]:
    """What is built on the way to the first mixture that is small enough."""
    large, small = 0, len(mixtures.path)
    while small - large > 1:
        middle = (large + small) // 2
        candidate = mixtures.build(middle)
        yield candidate
        if candidate.bytes > most:
            large = middle
        else:
            small = middle


def _too_large(found: list[Candidate], most: int) -> ConversionError:
    least = min(found, key=lambda each: each.bytes)
    return ConversionError(
        f"no compression gives an artifact of at most {most} bytes: the smallest has {least.bytes} ({least.what})",
        code="B0414",
        hint="allow more bytes, or take a later target, which knows smaller methods",
        key="compression.auto.max_bytes",
    )


def _said(best: Candidate) -> str:
    counts: Counter[str] = Counter()
    for name, step in best.spec.program_compression.items():
        if step.names is None:
            return f"compression {best.what}"
        counts[name] += len(step.names)
    text = first_of([f"{name} for {count}" for name, count in counts.most_common()], 4)
    return f"compression {text} weights" if text else "no compression"
