"""Which weights a compression step is for."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from builder.compression.weights import Weight
from builder.errors import ConfigurationError
from builder.nearest import did_you_mean
from builder.spec.compression import CompressionStep


def select_weights(name: str, step: CompressionStep, weights: Iterable[Weight]) -> list[Weight]:
    """The weights that `step` chooses; a pattern that matches none of them all is a ConfigurationError."""
    weights = list(weights)
    known_types = frozenset().union(*(weight.op_types for weight in weights))
    known_names = frozenset().union(*(weight.names for weight in weights))
    for setting in ("op_types", "except_op_types", "names", "except_names"):
        known = known_types if setting.endswith("op_types") else known_names
        for pattern in getattr(step, setting) or ():
            if not _any_match(known, (pattern,)):
                raise ConfigurationError(
                    f"compression {name}: no weight of the program belongs to {pattern}",
                    hint=did_you_mean(pattern, known),
                    key=f"compression.{name}.{setting}",
                )
    return [weight for weight in weights if _is_chosen(step, weight)]


def _is_chosen(step: CompressionStep, weight: Weight) -> bool:
    return (
        (step.op_types is None or _any_match(weight.op_types, step.op_types))
        and (step.names is None or _any_match(weight.names, step.names))
        and not _any_match(weight.op_types, step.except_op_types or ())
        and not _any_match(weight.names, step.except_names or ())
    )


def _any_match(names: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
