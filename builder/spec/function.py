"""What a recipe says of one function of an artifact."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from builder.spec.base import FeatureName, Part, PositiveInt


class Function(Part):
    """One function of the artifact: the recipe's model, captured at shapes of its own.

    All functions share the weights, which are in the file once, and the states: what one of them writes, the next one
    that the app calls with the same `MLState` reads.
    """

    shape: dict[FeatureName, Annotated[list[PositiveInt], Field(min_length=1, max_length=5)]] = {}
    """By input: the sizes that it has in this function, where they are not those in `input`."""


Functions = dict[FeatureName, Function]
"""By name; the app loads one with `MLModelConfiguration.functionName`, and the first when it names none."""
