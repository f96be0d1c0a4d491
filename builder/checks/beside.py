"""Inputs beside the samples of a parity check: stress inputs and what the search finds, each judged on its own.

An output is judged on the scale that it has over the check's samples: where an input makes it nearly zero, a difference
counts as it would where it is of its usual size. What the original is not sure of itself is no error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from builder.artifacts import Sample
from builder.checks.comparison import Outputs
from builder.checks.engine import Execute
from builder.checks.limits import parity_limits
from builder.checks.rounding import with_numbers, without_rounding
from builder.checks.subject import Subject
from builder.errors import SourceError
from builder.runtime.errors import RuntimeFailure
from builder.spec import BuildSpec
from builder.spec.base import Limit
from builder.spec.checks import ComparisonLimits, ParityCheck

UNCERTAIN = 4.0
"""A difference of so many times that which rounding the input to half precision makes in the original is no error."""
SPREAD_DB = 10.0
"""So much lower than the limit of the check's samples is that of compressed weights: what is left of them says more of
one input than of another, and no rounding explains it."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What came of one input."""

    snr_db: float = math.inf
    """The worst over the outputs of floats, on their usual scale, beside what the original is not sure of."""
    failure: str | None = None
    """Which limit the artifact misses, or why it could not be executed."""
    refused: bool = False
    """The original cannot take the input, or gives no finite number: nothing is asked of the artifact."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Compares artifact and original on inputs one by one."""

    subject: Subject
    execute: Execute
    sizes: Mapping[str, float]
    """By output of floats, the usual size of a value: its root mean square over the check's samples."""
    limits: Mapping[str, Limit]
    half: bool
    """Whether the artifact computes in half precision, which rounds its inputs too."""

    def __call__(self, sample: Sample) -> Judgement:
        """Judge one input; nothing is raised for what original or artifact make of it."""
        try:
            reference = self.subject.run_original(self.subject.prepared.uncompressed, sample)
        except SourceError:
            return Judgement(refused=True)
        if not any(bool(torch.isfinite(value).any()) for value in reference.values() if value.numel()):
            return Judgement(refused=True)
        try:
            result = with_numbers(reference, self.execute(sample))
        except RuntimeFailure as error:
            return Judgement(snr_db=-math.inf, failure=f"the artifact cannot be executed on it: {error}")
        return self._compared(sample, reference, without_rounding(self.subject, reference, result))

    def _compared(self, sample: Sample, reference: Outputs, result: Outputs) -> Judgement:
        others = _Others(self.subject, sample, half=self.half)
        worst, failures = math.inf, []
        for name, expected in reference.items():
            got = result[name]
            if expected.shape != got.shape:
                shapes = f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
                return Judgement(snr_db=-math.inf, failure=f"{name}: {shapes}")
            lost = int((~torch.isfinite(got) & torch.isfinite(expected)).sum())
            if lost:
                what = f"{lost} of {got.numel()} values are NaN or infinite where the original has numbers"
                return Judgement(snr_db=-math.inf, failure=f"{name}: {what}")
            if expected.is_floating_point():
                measure, value = "snr_db", self._snr(name, expected, got, others)
                worst = min(worst, value)
            else:
                measure, value = "agreement", self._agreement(name, expected, got, others)
            limit = self.limits.get(measure)
            if limit is not None and not limit.holds(value):
                failures.append(f"{name}: {measure} is {value:.4g}, and the limit is {limit.min:g}")
        return Judgement(snr_db=worst, failure="; ".join(failures) or None)

    def _snr(self, name: str, expected: torch.Tensor, got: torch.Tensor, others: _Others) -> float:
        finite = torch.isfinite(expected)
        kept, error = expected[finite].double(), (got[finite].double() - expected[finite].double())
        signal = max(float(kept @ kept), kept.numel() * self.sizes.get(name, 0.0) ** 2)
        noise = float(error @ error)
        limit = self.limits.get("snr_db")
        if limit is None or limit.holds(_decibels(signal, noise)):
            return _decibels(signal, noise)
        uncertain = 0.0
        for other in others(name):
            difference = torch.nan_to_num(other[finite].double() - kept, nan=math.inf)
            uncertain = max(uncertain, float(difference @ difference))
        left = max(math.sqrt(noise) - UNCERTAIN * math.sqrt(uncertain), 0.0)
        return _decibels(signal, left**2)

    def _agreement(self, name: str, expected: torch.Tensor, got: torch.Tensor, others: _Others) -> float:
        same = expected.double() == got.double()
        limit = self.limits.get("agreement")
        if limit is not None and not limit.holds(_share(same)):
            for other in others(name):
                same |= other.double() != expected.double()
        return _share(same)


def make_judge(check: ParityCheck, subject: Subject, execute: Execute, references: Sequence[Outputs]) -> Judge:
    """The judge of what is beside the samples of `check`, whose outputs of the original are `references`."""
    precision = subject.spec.precision.kind
    return Judge(
        subject=subject,
        execute=execute,
        sizes={name: _usual([r[name] for r in references]) for name in references[0]},
        limits=_limits(subject.spec, check),
        half=precision != "fp32" or bool(subject.spec.compression),
    )


def _limits(spec: BuildSpec, check: ParityCheck) -> dict[str, Limit]:
    """The limits of the precision, and lower ones that the recipe gives: its others are about the check's samples."""
    found: dict[str, Limit] = {}
    known, given = parity_limits(spec, ComparisonLimits()), parity_limits(spec, check)
    for measure in ("snr_db", "agreement"):
        least = [limit.min for limits in (known, given) if (limit := limits.get(measure)) and limit.min is not None]
        if least:
            allowed = SPREAD_DB if measure == "snr_db" and spec.compression else 0.0
            found[measure] = Limit(min=min(least) - allowed)
    return found


def _usual(values: Sequence[torch.Tensor]) -> float:
    """The median over samples of the root mean square of an output's finite values."""
    sizes = []
    for value in values:
        finite = value[torch.isfinite(value)].double() if value.is_floating_point() else value.flatten().double()
        sizes += [math.sqrt(float(finite @ finite) / finite.numel())] if finite.numel() else []
    return float(np.median(sizes)) if sizes else 0.0


class _Others:
    """What the original answers where its inputs are rounded otherwise, made when somebody asks."""

    def __init__(self, subject: Subject, sample: Sample, *, half: bool) -> None:
        self._subject, self._sample, self._half = subject, sample, half
        self._outputs: list[Outputs] | None = None

    def __call__(self, name: str) -> list[torch.Tensor]:
        if self._outputs is None:
            self._outputs = [self._run(up) for up in (False, True)]
        return [outputs[name] for outputs in self._outputs]

    def _run(self, up: bool) -> Outputs:
        tensors = {name: self._moved(tensor, up) for name, tensor in self._sample.tensors.items()}
        moved = Sample(given=self._sample.given, tensors=tensors)
        return self._subject.run_original(self._subject.prepared.uncompressed, moved)

    def _moved(self, tensor: torch.Tensor, up: bool) -> torch.Tensor:
        """The tensor rounded to half precision, or with half a unit in the last place more, of single or half."""
        if not tensor.is_floating_point():
            return tensor
        if self._half and not up:
            return tensor.half().to(tensor.dtype)
        return tensor * (1 + (2.0**-12 if self._half else 2.0**-24) * (1 if up else -1))


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 or not math.isfinite(noise) else 10 * math.log10(signal / noise)


def _share(same: torch.Tensor) -> float:
    return float(same.double().mean()) if same.numel() else 1.0
