"""The error that each operator of an artifact adds by itself, and what it alone does to the outputs.

Every operator computes on the values of the reference, the same program in float32 without compression, so that errors
do not add up: what differs at its output is its own. For the worst of them the reference then runs once more, with
that one output in place of its own: what differs at the outputs is what this operator costs.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from builder.analysis.numerics.findings import Range
from builder.analysis.numerics.sums import NoiseSum, RangeSum
from coreml_runtime.executor import Step
from coreml_runtime.model import Model
from coreml_runtime.observed import run_observed

if TYPE_CHECKING:
    from coreml_runtime.observed import Observer

CANDIDATES = 16
"""For how many operators it is measured what they alone do to the outputs."""

_CAST = re.compile(r"(_(cast_fp16|cast_fp32|to_fp16|to_fp32)(_\d+)?)+$")

Inputs = Mapping[str, object]
"""One sample as the app gives it."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One value of the artifact that has a counterpart in the reference."""

    name: str
    """What the reference calls it."""
    given_name: str
    """What the artifact calls it."""
    operator: str
    own_noise: float
    noise: float | None
    """At the outputs; None where that was not measured."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two programs, operator by operator, in the order of the artifact."""

    noise: float
    measured: tuple[Measured, ...]
    unmatched: tuple[str, ...]
    ranges: Mapping[str, Range]
    """By name in the reference."""
    operators: Mapping[str, str]
    """Likewise the types of operators."""


def plain_name(name: str) -> str:
    """The name that a value has in float32: coremltools marks those that it casts."""
    return _CAST.sub("", name) or name


@dataclass(kw_only=True)
class _Sums:
    """What grows from sample to sample: of the artifact by its own names, of the reference by its."""

    own: dict[str, NoiseSum] = field(default_factory=dict)
    counterparts: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, RangeSum] = field(default_factory=dict)
    reference_types: dict[str, str] = field(default_factory=dict)
    unmatched: dict[str, None] = field(default_factory=dict)
    whole: dict[str, NoiseSum] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """All that the reference computes for one sample."""

    values: Mapping[str, torch.Tensor]
    operators: Mapping[str, str]
    """By an operator's own name, that of its output: coremltools derives the names of casts from it."""
    outputs: Mapping[str, torch.Tensor]
    pairs: Mapping[str, str] | None
    """By a value of the artifact its counterpart here, where names do not say that."""

    def counterpart(self, name: str, value: torch.Tensor) -> str | None:
        """The name here of what the artifact calls `name`; None where nothing here is like it."""
        plain = plain_name(name)
        alike = (name, plain, self.operators.get(name), self.operators.get(plain))
        for found in alike if self.pairs is None else (self.pairs.get(name),):
            given = None if found is None else self.values.get(found)
            if given is not None and given.shape == value.shape:
                return found if given.is_floating_point() == value.is_floating_point() else None
        return None


def compare_programs(
    artifact: Model,
    reference: Model,
    samples: Sequence[Inputs],
    *,
    candidates: int = CANDIDATES,
    outputs: Collection[str] = (),
    until: float = math.inf,
    pairs: Mapping[str, str] | None = None,
) -> Comparison:
    """Measure every operator of `artifact`; both are programs with the same inputs and outputs.

    `candidates` says for how many of them, the noisiest first, it is measured what they alone do to the outputs: to
    these, or to all where none of them is an output of both. Of no more is it measured after `until`, as
    `time.monotonic` counts. Values are counterparts by their names, or by `pairs` of a value here and one there.
    """
    sums = _Sums()
    for sample in samples:
        expected = _compute(reference, sample, sums, pairs)
        _run(artifact, sample, partial(_measure, expected, sums))
        _add_outputs(sums.whole, _among(expected.outputs, outputs), _run(artifact, sample, lambda *_: None))
    noisy = sorted((name for name in sums.own if sums.own[name].noise), key=lambda name: -sums.own[name].ratio)
    counterparts = {name: sums.counterparts[name] for name in noisy[:candidates]}
    effects = _effects(artifact, reference, samples, counterparts, outputs, until, pairs)
    return Comparison(
        noise=_worst(sums.whole),
        measured=tuple(
            Measured(
                name=sums.counterparts[name],
                given_name=name,
                operator=sums.types[name],
                own_noise=noise.ratio,
                noise=effects.get(name),
            )
            for name, noise in sums.own.items()
        ),
        unmatched=tuple(sums.unmatched),
        ranges={name: found.range() for name, found in sums.ranges.items()},
        operators=sums.reference_types,
    )


def _compute(reference: Model, sample: Inputs, sums: _Sums, pairs: Mapping[str, str] | None) -> _Reference:
    """Run the reference, and count what it computes."""
    values: dict[str, torch.Tensor] = {}
    operators: dict[str, str] = {}

    def observe(step: Step | None, name: str, value: torch.Tensor) -> None:
        values[name] = value
        if step is None:
            return
        operators[step.name] = name
        sums.reference_types[name] = step.type
        if value.is_floating_point():
            sums.ranges.setdefault(name, RangeSum()).add(value)

    outputs = _run(reference, sample, observe)
    return _Reference(values=values, operators=operators, outputs=outputs, pairs=pairs)


def _measure(
    expected: _Reference, sums: _Sums, step: Step | None, name: str, value: torch.Tensor
) -> torch.Tensor | None:
    """Measure what an operator computed, and let what follows compute on the reference's value."""
    if step is None:
        return None
    plain = expected.counterpart(name, value)
    if plain is None:
        sums.unmatched[name] = None
        return None
    given = expected.values[plain]
    sums.counterparts[name], sums.types[name] = plain, step.type
    sums.own.setdefault(name, NoiseSum()).add(given, value)
    return given.to(value.dtype)


def _effects(
    artifact: Model,
    reference: Model,
    samples: Sequence[Inputs],
    counterparts: Mapping[str, str],
    wanted: Collection[str],
    until: float,
    pairs: Mapping[str, str] | None,
) -> dict[str, float]:
    """For each of these operators the noise at the outputs that it alone causes; of the later ones on fewer samples."""
    found: dict[str, dict[str, NoiseSum]] = {name: {} for name in counterparts}
    for sample in samples if counterparts else ():
        expected = _compute(reference, sample, _Sums(), pairs)
        local: dict[str, torch.Tensor] = {}
        _run(artifact, sample, partial(_keep, expected, local, counterparts))
        for name, plain in counterparts.items():
            if time.monotonic() > until:
                break
            outputs = _run(reference, sample, partial(_put, plain, local[name].to(expected.values[plain].dtype)))
            _add_outputs(found[name], _among(expected.outputs, wanted), outputs)
    return {name: _worst(sums) for name, sums in found.items() if sums}


def _keep(
    expected: _Reference,
    local: dict[str, torch.Tensor],
    wanted: Mapping[str, str],
    step: Step | None,
    name: str,
    value: torch.Tensor,
) -> torch.Tensor | None:
    """Keep what these operators compute on the reference's values."""
    if name in wanted:
        local[name] = value
    return _measure(expected, _Sums(), step, name, value)


def _put(
    wanted: str, instead: torch.Tensor, _step: Step | None, name: str, _value: torch.Tensor
) -> torch.Tensor | None:
    """Put another value in the place of the wanted one; the runtime hands over step and value as well."""
    return instead if name == wanted else None


def _run(model: Model, sample: Inputs, observe: Observer) -> dict[str, torch.Tensor]:
    """The outputs as tensors; a classifier's probabilities in the order of its labels, without the label itself."""
    state = model.make_state() if model.states else None
    outputs = run_observed(model, sample, observe, state=state)
    tensors = {
        name: torch.tensor(list(value.values())) if isinstance(value, dict) else value
        for name, value in outputs.items()
    }
    return {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}


def _among(values: Mapping[str, torch.Tensor], wanted: Collection[str]) -> Mapping[str, torch.Tensor]:
    """Those that are wanted, or all where none of them is there."""
    return {name: value for name, value in values.items() if name in wanted} or values


def _add_outputs(
    sums: dict[str, NoiseSum], expected: Mapping[str, torch.Tensor], got: Mapping[str, torch.Tensor]
) -> None:
    for name in expected:
        sums.setdefault(name, NoiseSum()).add(expected[name], got[name])


def _worst(sums: Mapping[str, NoiseSum]) -> float:
    return max((noise.ratio for noise in sums.values()), default=0.0)
