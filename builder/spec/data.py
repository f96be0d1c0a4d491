"""Real data for checks: a closed union by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Part


class PhotographsData(Part):
    """The two photographs that scikit-learn ships, cut into pieces of the input's size."""

    kind: Literal["photographs"]


class DigitsData(Part):
    """scikit-learn's 1,797 labelled handwritten digits (UCI), enlarged to the input's size."""

    kind: Literal["digits"]
    split: Literal["train", "held_out"] = "held_out"
    """The first 1,437 digits, or the last 360, which come from other writers for the most part."""


class NoiseData(Part):
    """Seeded noise in the range that the input declares."""

    kind: Literal["noise"]


Data = Annotated[PhotographsData | DigitsData | NoiseData, Field(discriminator="kind")]
