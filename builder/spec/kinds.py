"""What tables of kinds share: names, tables that refuse duplicates, and the union that a recipe has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, Protocol, TypeVar, get_args

from pydantic import Field

from builder.spec.base import Part


class Kind(Protocol):
    """An entry of a table."""

    @property
    def settings(self) -> type[Part]:
        """What a recipe says of it; its `kind` is the name."""


K = TypeVar("K", bound=Kind)


def name_of(settings: type[Part]) -> str:
    """What a recipe writes as `kind` for these settings."""
    return str(get_args(settings.model_fields["kind"].annotation)[0])


def table(*kinds: K) -> tuple[K, ...]:
    """The kinds as they are; raises ValueError where two have one name."""
    names = [name_of(kind.settings) for kind in kinds]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"two kinds are named {twice[0]}")
    return kinds


def kind_of_settings(kinds: Sequence[K], settings: Part) -> K:
    """The entry of a table that these settings are of."""
    return next(kind for kind in kinds if type(settings) is kind.settings)


def union(kinds: Sequence[Kind]) -> Any:
    """The type of a setting that is one of these kinds, told apart by `kind`."""
    return Annotated[reduce(or_, (kind.settings for kind in kinds)), Field(discriminator="kind")]
