"""Inputs beside the samples of a parity check: stress inputs and what the search finds, each judged on its own.

An output is judged on the scale that it has over the check's samples: where an input makes it nearly zero, a difference
counts as it would where it is of its usual size. An input that is like a real one is judged as samples are. What the
original is not sure of itself is not an error. A model with states begins each input with those that the samples left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
import torch

from builder.artifacts.stages import Sample
from builder.checks.certainty import agreement_beside
from builder.checks.comparison import Outputs
from builder.checks.engine import Execute
from builder.checks.limits import parity_limits
from builder.checks.rounding import with_numbers, without_rounding
from builder.checks.states import Begin
from builder.checks.subject import Subject
from builder.errors import SourceError
from builder.spec import BuildSpec
from builder.spec.base import Limit
from builder.spec.checks import ComparisonLimits, ParityCheck
from builder.util.measures import MULTIPLE
from coreml_runtime.errors import RuntimeFailure

OtherAnswers = Callable[[], Iterator[Outputs]]
"""What the original answers for one input where its own rounding falls otherwise, as long as somebody asks."""

SOON = 8
"""So many answers are asked for once an input has missed a limit for good: the check has failed then."""

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
    """Those of the check's samples."""
    spread: float
    """How much lower the SNR of an input may be that is unlike any that an app gives, in dB."""
    others: _Others
    begin: Begin

    def __call__(self, sample: Sample, *, like_real: bool = False) -> Judgement:
        """Judge one input; nothing is raised for what original or artifact make of it."""
        self.begin()
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
        result = without_rounding(self.subject, reference, result)
        return self._compared(reference, result, self.others.of(sample), like_real=like_real)

    def _compared(self, reference: Outputs, result: Outputs, others: OtherAnswers, *, like_real: bool) -> Judgement:
        limits = self.limits if like_real else _lowered(self.limits, self.spread)
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
                usual = self.sizes.get(name, 0.0) * (1.0 if like_real else math.sqrt(max(expected.numel(), 1)))
                measure, value = "snr_db", _snr(name, expected, got, others, limits.get("snr_db"), usual)
                worst = min(worst, value)
            else:
                measure, value = "agreement", self._agreement(name, expected, got, others)
            limit = limits.get(measure)
            if limit is not None and not limit.holds(value):
                failures.append(f"{name}: {measure} is {value:.4g}, and the limit is {limit.min:g}")
        if failures:
            self.others.hurry()
        return Judgement(snr_db=worst, failure="; ".join(failures) or None)

    def _agreement(self, name: str, expected: torch.Tensor, got: torch.Tensor, others: OtherAnswers) -> float:
        limit = self.limits.get("agreement")
        answers = () if limit is None else (answer[name] for answer in others())
        return agreement_beside(expected, got, answers, limit)[0]


def _snr(
    name: str, expected: torch.Tensor, got: torch.Tensor, others: OtherAnswers, limit: Limit | None, usual: float
) -> float:
    """The SNR of an output beside what the original is not sure of; `usual` is the least norm of its signal."""
    finite = torch.isfinite(expected)
    kept, error = expected[finite].double(), (got[finite].double() - expected[finite].double())
    signal = max(float(kept @ kept), usual**2)
    noise = float(error @ error)
    if limit is None or limit.holds(_decibels(signal, noise)):
        return _decibels(signal, noise)
    uncertain, left = 0.0, math.sqrt(noise)
    for other in (answer[name] for answer in others()):
        if other.shape != expected.shape:
            continue
        difference = torch.nan_to_num(other[finite].double() - kept, nan=math.inf)
        uncertain = max(uncertain, float(difference @ difference))
        left = max(math.sqrt(noise) - MULTIPLE * math.sqrt(uncertain), 0.0)
        if limit.holds(_decibels(signal, left**2)):
            break
    return _decibels(signal, left**2)


def make_judge(
    check: ParityCheck, subject: Subject, execute: Execute, references: Sequence[Outputs], begin: Begin
) -> Judge:
    """The judge of what is beside the samples of `check`, whose outputs of the original are `references`."""
    return Judge(
        subject=subject,
        execute=execute,
        sizes={name: _usual([r[name] for r in references]) for name in references[0]},
        limits=_limits(subject.spec, check),
        spread=SPREAD_DB if subject.spec.compression else 0.0,
        others=_Others(subject, begin),
        begin=begin,
    )


def _limits(spec: BuildSpec, check: ParityCheck) -> dict[str, Limit]:
    """The limits of the precision, and lower ones that the recipe gives: its others are about the check's samples."""
    found: dict[str, Limit] = {}
    known, given = parity_limits(spec, ComparisonLimits()), parity_limits(spec, check)
    for measure in ("snr_db", "agreement"):
        least = [limit.min for limits in (known, given) if (limit := limits.get(measure)) and limit.min is not None]
        if least:
            found[measure] = Limit(min=min(least))
    return found


def _lowered(limits: Mapping[str, Limit], by: float) -> Mapping[str, Limit]:
    least = limits.get("snr_db")
    return limits if least is None or least.min is None else {**limits, "snr_db": Limit(min=least.min - by)}


def _usual(values: Sequence[torch.Tensor]) -> float:
    """The median over samples of the root mean square of an output's finite values."""
    sizes = []
    for value in values:
        finite = value[torch.isfinite(value)].double() if value.is_floating_point() else value.flatten().double()
        sizes += [math.sqrt(float(finite @ finite) / finite.numel())] if finite.numel() else []
    return float(np.median(sizes)) if sizes else 0.0


class _Others:
    """What the original answers for inputs where its own rounding falls otherwise, made when somebody asks.

    Where the artifact computes in half precision, its inputs and weights are rounded too: what the original answers
    where they are rounded so, or moved within that rounding, is not an error of the artifact either.
    """

    def __init__(self, subject: Subject, begin: Begin) -> None:
        self._subject, self._begin = subject, begin
        self._samples: list[Sample] = []
        self._answers = subject.other_outputs(subject.prepared.uncompressed, self._samples)
        self._hurries = False

    def hurry(self) -> None:
        """Ask for few answers from now on."""
        self._hurries = True

    def of(self, sample: Sample) -> OtherAnswers:
        """The other answers for a sample, each from the states that the sample itself began with."""
        known: list[Outputs] = []
        made = self._made(sample)  # a generator: most inputs need no other answer, and one costs more than the input

        def answers() -> Iterator[Outputs]:
            for number in count():
                if number == len(known):
                    following = next(made, None)
                    if following is None:
                        return
                    known.append(following)
                yield known[number]

        return answers

    def _made(self, sample: Sample) -> Iterator[Outputs]:
        if self._subject.prepared.states:  # the answers for several samples would be those of one sequence
            self._begin()
            answers, number = self._subject.other_outputs(self._subject.prepared.uncompressed, [sample]), 0
        else:
            self._samples.append(sample)
            answers, number = self._answers, len(self._samples) - 1
        most = SOON if self._hurries else None
        yield from islice(chain(answers(number), answers.further(number)), most)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 or not math.isfinite(noise) else 10 * math.log10(signal / noise)
