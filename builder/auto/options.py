"""The methods that an automatic compression chooses from: for each layer one, or one for all of them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence

from builder.spec.compression import (
    AutoCompression,
    LinearQuantize,
    Palettize,
    Prune,
    WeightCompression,
)
from builder.spec.compression_kinds import compression_kind
from builder.spec.target import Target

Steps = Mapping[str, WeightCompression]

NONE = "none"
"""The method of a layer that stays as it is."""

_GROUP = 16
"""Channels that share a table: fewer cost more tables, more cost quality."""


def _least(step: WeightCompression) -> int:
    return compression_kind(step).minimum_generation(step)


def options(auto: AutoCompression, target: Target) -> dict[str, Steps]:
    """By name, the steps of every method that `target` knows; two steps are one upon the other (iOS 18)."""
    threshold = {} if auto.weight_threshold == 2048 else {"weight_threshold": auto.weight_threshold}

    def palettize(nbits: int, **more: object) -> Palettize:
        return Palettize.model_validate({"kind": "palettize", "nbits": nbits, **more, **threshold})

    grouped = {"granularity": "per_grouped_channel", "group_size": _GROUP}
    block = {"granularity": "per_block", "block_size": 32}
    prune = Prune.model_validate({"kind": "prune", "target_sparsity": 0.5, **threshold})
    single: dict[str, WeightCompression] = {
        "int8": LinearQuantize.model_validate({"kind": "linear_quantize", "dtype": "int8", **threshold}),
        **{f"palettize_{nbits}": palettize(nbits) for nbits in (8, 6, 4, 3, 2)},
        **{f"palettize_{nbits}_grouped": palettize(nbits, **grouped) for nbits in (4, 2)},
        "int4": LinearQuantize.model_validate({"kind": "linear_quantize", "dtype": "int4", **block, **threshold}),
        "prune_50": prune,
    }
    found: dict[str, Steps] = {name: {name: step} for name, step in single.items()}
    for nbits in (6, 4):
        found[f"prune_50_palettize_{nbits}"] = {"prune": prune, "palettize": palettize(nbits)}
    return {
        name: steps
        for name, steps in found.items()
        if target.generation
        >= max(18 if len(steps) > 1 else 16, *(compression_kind(s).minimum_generation(s) for s in steps.values()))
    }


def composed(given: Mapping[str, Steps], weights: Mapping[str, Sequence[str]]) -> dict[str, WeightCompression]:
    """The steps of a recipe that gives each method of `weights` the weights that it names."""
    found: dict[str, WeightCompression] = {}
    for option, names in weights.items():
        for name, step in given[option].items():
            patterns = [glob.escape(each) for each in names]
            found[name if len(given[option]) == 1 else f"{option}_{name}"] = step.model_copy(update={"names": patterns})
    return found


def by_option(chosen: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """The weights of each method but none, from pairs of a method and the weights of a layer."""
    found: dict[str, list[str]] = {}
    for option, names in chosen:
        if option != NONE:
            found.setdefault(option, []).extend(names)
    return dict(sorted(found.items()))
