"""How sensitive each layer is: what every method makes of its size, and of the model's outputs.

For every method the artifact with that method for all weights is at hand. Each operator of it computes on the values of
the uncompressed program, so that what differs at its output is its own noise. What a noise there does to the outputs is
measured once for each operator, with the noise of one method, and taken to grow in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import coreml_runtime as runtime
from builder.analysis.numerics.graph import pairs
from builder.analysis.numerics.operators import Comparison, compare_programs
from builder.artifacts.stages import Sample
from builder.auto.attempts import Candidate
from builder.backends import backend_of

if TYPE_CHECKING:
    from builder.artifacts.stored import LayerNoise, MeasuredLayers

_PROBES = ("palettize_4", "int8", "palettize_8", "palettize_6")
"""Whose noise is passed on to the outputs, the first that compresses a layer: above rounding, and below garbage."""


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Weights that are computed with by the same operators: they get one method."""

    weights: tuple[str, ...]
    outputs: tuple[str, ...]
    """Of the operators."""


def measure_layers(plain: Candidate, uniform: Mapping[str, Candidate], samples: Sequence[Sample]) -> MeasuredLayers:
    """For each layer that can be compressed: its weights, and by method the bytes and the noise (`costs`).

    `uniform` has for each method the artifact with that method for all weights, `plain` is without any.
    """
    feeds = backend_of(plain.spec.format).feeds
    inputs = [feeds(sample, plain.spec) for sample in samples]
    reference = runtime.load(plain.path)
    layers = _layers(plain)
    names = {output for layer in layers for output in layer.outputs}
    compared = {
        option: compare_programs(
            runtime.load(found.path),
            reference,
            inputs,
            candidates=_probed(option, names),
            pairs=pairs(found.path, plain.path),
        )
        for option, found in uniform.items()
    }
    gains = _gains(compared)
    own = {option: _own_noise(one) for option, one in compared.items()}
    found: list[LayerNoise] = []
    for layer in layers:
        costs: dict[str, list[int | float]] = {"none": [_bytes(plain, layer), 0.0]}
        for option, candidate in uniform.items():
            noise = _noise(layer, own[option], gains)
            if noise is not None and set(layer.weights) <= _changed(candidate):
                costs[option] = [_bytes(candidate, layer), noise]
        if len(costs) > 1:
            found.append({"weights": list(layer.weights), "costs": costs})
    return {"layers": found}


def _probed(option: str, names: set[str]) -> int:
    """For how many operators the noise is passed on."""
    return len(names) if option in _PROBES[:2] else 0


def _own_noise(compared: Comparison) -> dict[str, float]:
    """By operator as `plain` calls it, its own noise; a cast of the method's has the same counterpart, and none."""
    found: dict[str, float] = {}
    for each in compared.measured:
        found[each.name] = max(each.own_noise, found.get(each.name, 0.0))
    return found


def _gains(compared: Mapping[str, Comparison]) -> dict[str, float]:
    """By operator, the noise at the outputs for each noise at its own, from the first probe that has some."""
    gains: dict[str, float] = {}
    for option in _PROBES:
        for each in compared[option].measured if option in compared else ():
            if each.noise is not None and 0 < each.own_noise < math.inf and math.isfinite(each.noise):
                gains.setdefault(each.name, each.noise / each.own_noise)
    return gains


def _noise(layer: _Layer, own: Mapping[str, float], gains: Mapping[str, float]) -> float | None:
    """The noise that a layer causes at the outputs; None where it was not measured, as within control flow."""
    if any(output not in own or (own[output] and output not in gains) for output in layer.outputs):
        return None
    noise = sum(own[output] * gains.get(output, 0.0) for output in layer.outputs)
    return noise if math.isfinite(noise) else None


def _changed(candidate: Candidate) -> frozenset[str]:
    """The weights that all steps of a method have changed."""
    return frozenset.intersection(*(frozenset(effect.changed) for effect in candidate.build.effects))


def _bytes(candidate: Candidate, layer: _Layer) -> int:
    """What its weights take: they stand by their operator, or by their own name where the format keeps that."""
    stored = {*layer.outputs, *layer.weights}
    return sum(weight.bytes for weight in candidate.build.weights if weight.output in stored)


def _layers(plain: Candidate) -> list[_Layer]:
    """Weights in groups that share no operator."""
    groups: list[tuple[frozenset[str], tuple[str, ...]]] = []
    for weight, outputs in plain.build.weight_users().items():
        meeting = [group for group in groups if group[0] & outputs]
        groups = [group for group in groups if not group[0] & outputs]
        merged = tuple(each for _, members in meeting for each in members)
        groups.append((outputs.union(*(shared for shared, _ in meeting)), (*merged, weight)))
    return [_Layer(weights=weights, outputs=tuple(sorted(outputs))) for outputs, weights in groups]
