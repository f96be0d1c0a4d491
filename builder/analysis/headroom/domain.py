"""What the inputs of an artifact are taken to be: as the recipe declares them, or as the file does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.data.stress import bounds
from builder.spec.inputs import ImageInput, TensorInput


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Least and greatest value by input; pictures are not among them, their levels are known."""

    ranges: Mapping[str, tuple[float, float]]
    words: tuple[str, ...]
    """For people, one for each input."""
    is_declared: bool
    """Whether somebody said so of every input: where not, findings rest on the usual range of noise."""


def domain_of(inputs: Mapping[str, ImageInput | TensorInput], *, known: bool = True) -> Domain:
    """The domain of a recipe's inputs; unless `known`, nothing is believed of integers, whose ends somebody made up."""
    ranges: dict[str, tuple[float, float]] = {}
    words, declared = [], True
    for name, given in inputs.items():
        if isinstance(given, ImageInput):
            words.append(f"{name}: levels of 0 to 255")
            continue
        if given.dtype == "int32" and not known:
            words.append(f"{name}: any integer")
            continue
        ranges[name] = bounds(given)
        is_declared = given.dtype == "int32" or given.low is not None or given.high is not None
        declared = declared and is_declared
        low, high = ranges[name]
        assumed = "" if is_declared else " (assumed: nothing declares `low` and `high`)"
        words.append(f"{name}: {low:g} to {high:g}{assumed}")
    return Domain(ranges=ranges, words=tuple(words), is_declared=declared)
