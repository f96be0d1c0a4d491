"""What a compression step is for: glob patterns on types and names, for weights and for operators alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import TypeVar

from builder.backends.coreml.compression.weights import Weight
from builder.errors import ConfigurationError
from builder.spec.compression import CompressionStep
from builder.util.suggest import did_you_mean

Item = TypeVar("Item")
Known = Callable[[Item], frozenset[str]]


def select_weights(step_name: str, step: CompressionStep, weights: Iterable[Weight]) -> list[Weight]:
    """The weights that `step` chooses, by their own names or by their operators."""
    types, names = attrgetter("op_types"), attrgetter("names")
    return select(step_name, step, weights, what="weight", types=types, names=names)


def select(
    step_name: str, step: CompressionStep, items: Iterable[Item], *, what: str, types: Known[Item], names: Known[Item]
) -> list[Item]:
    """The items that `step` chooses; a pattern that matches none of them all is a ConfigurationError.

    `what` says in messages what an item is; `types` and `names` tell what patterns are held against.
    """
    items = list(items)
    known_types = frozenset().union(*map(types, items))
    known_names = frozenset().union(*map(names, items))
    for setting in ("op_types", "except_op_types", "names", "except_names"):
        known = known_types if setting.endswith("op_types") else known_names
        for pattern in getattr(step, setting) or ():
            if not _any_match(known, (pattern,)):
                raise ConfigurationError(
                    f"compression {step_name}: no {what} of the program belongs to {pattern}",
                    code="B0264",
                    hint=did_you_mean(pattern, known),
                    key=f"compression.{step_name}.{setting}",
                )
    return [item for item in items if _is_chosen(step, types(item), names(item))]


def _is_chosen(step: CompressionStep, types: frozenset[str], names: frozenset[str]) -> bool:
    return (
        (step.op_types is None or _any_match(types, step.op_types))
        and (step.names is None or _any_match(names, step.names))
        and not _any_match(types, step.except_op_types or ())
        and not _any_match(names, step.except_names or ())
    )


def _any_match(names: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
