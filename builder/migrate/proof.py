"""Executes both ends on the same inputs, stress inputs among them, and says whether they compute the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import Sample
from builder.checks.comparison import judge
from builder.checks.limits import PARITY
from builder.data.drawing import as_sample
from builder.data.samples import draw_samples
from builder.data.stress_samples import stress_inputs
from builder.errors import BuilderError, CheckError, ConversionError
from builder.migrate.original import Inputs, Original
from builder.spec.base import Limit
from builder.spec.data import Data, NoiseData, PhotographsData
from builder.spec.inputs import ImageInput
from builder.util.measures import MULTIPLE, compare, decibels, typical_size
from coreml_runtime import RuntimeFailure

Outputs = dict[str, torch.Tensor]
Execute = Callable[[Sample], Mapping[str, torch.Tensor]]
"""What the new file answers for a sample; its states go from sample to sample."""

SAMPLES = 8
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One way to execute the new file. `begin` makes its states anew; it is for `samples` samples at most."""

    name: str
    execute: Execute
    begin: Callable[[], None]
    samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was compared, by engine, and how many stress inputs were among it."""

    reports: tuple[CheckReport, ...]
    stressed: int
    refused: int
    """Stress inputs that the original cannot take, or answers without a finite number."""

    @property
    def failure(self) -> str | None:
        """Why the ends are not the same; None where they are."""
        bad = [f"{report.engine}: {report.reason}" for report in self.reports if report.passed is not True]
        return "; ".join(bad) or None


def prove(
    original: Original, exacts: Sequence[Original], inputs: Inputs, engines: Sequence[Engine], *, half: bool,
    sizing: Sequence[str] = (),
) -> Proof:  # fmt: skip
    """Compare every engine with the original on samples and stress inputs.

    Of `sizing`, the inputs whose values give sizes, only values count that the original takes.

    `exacts` are the original computed without rounding to half, and with halves that torch rounds: how far these are
    from the original itself is no error of the new file.
    """
    data: Data = NoiseData(kind="noise")
    if any(isinstance(given, ImageInput) for given in inputs.values()):
        data = PhotographsData(kind="photographs")
    samples = list(draw_samples(data, inputs, SAMPLES, SEED)[:])
    samples += draw_samples(data, inputs, SAMPLES, SEED, vary=True)[1:] if _is_flexible(inputs) else []
    stress = stress_inputs(data, inputs, SEED)
    drawn = [(each.description, each.make()) for each in stress]
    if sizing:
        samples = [sample for sample in samples if _answer(original, sample) is not None]
        _check_any(samples, sizing)
    references = _answers(original, samples)
    asked, refused = [], 0
    for what, sample in drawn:
        answer = _answer(original, sample)
        if answer is None:
            refused += 1
        else:
            asked.append((what, sample, answer))
    limits = PARITY["fp16" if half else "fp32"]
    reports = []
    for engine in engines:
        few = len(samples) if engine.samples is None else engine.samples
        others = partial(_unsure, original, exacts, inputs, samples)
        report = _compared(engine, samples[:few], references[:few], limits, others=others, half=half)
        if report.passed is True and engine.samples is None:
            doubts = partial(_doubts, original, exacts, inputs)
            report = _stressed(report, engine, asked, references, doubts, limits["snr_db"])
        reports.append(report)
    return Proof(reports=tuple(reports), stressed=len(asked), refused=refused)


def _check_any(samples: Sequence[Sample], sizing: Sequence[str]) -> None:
    """Raise ConversionError where the original takes none of the samples."""
    if not samples:
        raise ConversionError(
            f"nothing can be proven: the values of {', '.join(sizing)} give sizes, and the original takes none of "
            "those that were drawn",
            code="B0419",
        )


def _is_flexible(inputs: Inputs) -> bool:
    from builder.spec.inputs import is_flexible

    return any(is_flexible(given) for given in inputs.values())


def _answers(original: Original, samples: Sequence[Sample]) -> list[Outputs]:
    original.begin()
    return [original(sample) for sample in samples]


def _answer(original: Original, sample: Sample) -> Outputs | None:
    """What the original answers from its first state on; None where it cannot, or has no finite number to give."""
    original.begin()
    try:
        answer = original(sample)
    except RuntimeFailure:
        return None
    finite = all(bool(torch.isfinite(value).all()) for value in answer.values() if value.is_floating_point())
    return answer if finite else None


def _compared(
    engine: Engine,
    samples: Sequence[Sample],
    references: Sequence[Outputs],
    limits: Mapping[str, Limit],
    *,
    others: Callable[[int], Sequence[Outputs]],
    half: bool,
) -> CheckReport:
    engine.begin()
    results = [
        {name: _like(value, reference[name]) for name, value in _executed(engine, sample).items() if name in reference}
        for sample, reference in zip(samples, references, strict=True)
    ]
    return judge(
        name="export", kind="parity", engine=engine.name, references=references, results=results, scores=None,
        limits=limits, others=others, half=half,
    )  # fmt: skip


def _executed(engine: Engine, sample: Sample) -> Mapping[str, torch.Tensor]:
    """Raises CheckError where the new file does not run on what the original takes."""
    try:
        return engine.execute(sample)
    except BuilderError:
        raise
    except Exception as error:  # each engine has types of its own
        raise CheckError(
            f"{engine.name} does not run on what the original takes: {innermost(error)}",
            code="B0501",
            hint="nothing was written; another format may hold it",
        ) from error


def innermost(error: BaseException) -> str:
    """The first line of the error that others wrapped in steps and advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


_MOVES = 3
"""How often inputs are moved by their last bit, to see how sure the original is of its answer."""


def _unsure(
    original: Original, exacts: Sequence[Original], inputs: Inputs, samples: Sequence[Sample], number: int
) -> list[Outputs]:
    """What else the original could answer to a sample; nothing for models with states, which would be begun anew."""
    return [] if original.model.states else _doubts(original, exacts, inputs, samples[number])


def _moves(inputs: Inputs, sample: Sample) -> Iterator[Sample]:
    generator = np.random.default_rng(SEED)
    for _ in range(_MOVES):
        given = {
            name: value * (1 + np.float32(2**-23) * generator.integers(-1, 2, value.shape).astype(value.dtype))
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
            else value
            for name, value in sample.given.items()
        }
        yield as_sample(given, inputs)


def _doubts(original: Original, exacts: Sequence[Original], inputs: Inputs, sample: Sample) -> list[Outputs]:
    """What else the original could answer: rounded to half less or elsewhere, and for arrays of floats moved a bit."""
    answers = [
        *(_answer(exact, sample) for exact in exacts),
        *(_answer(original, moved) for moved in _moves(inputs, sample)),
    ]
    return [answer for answer in answers if answer is not None]


def _like(value: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """In the reference's type where that is integers, else in float32."""
    value = value.detach()
    if not reference.is_floating_point():
        return value.round().to(reference.dtype) if value.is_floating_point() else value.to(reference.dtype)
    return value.float()


def _stressed(
    report: CheckReport, engine: Engine, asked: Sequence[tuple[str, Sample, Outputs]], references: Sequence[Outputs],
    doubts: Callable[[Sample], Sequence[Outputs]], limit: Limit,
) -> CheckReport:  # fmt: skip
    """The report with the worst stress input in it, and failed where one misses the limit."""
    from dataclasses import replace

    sizes = {name: typical_size([each[name] for each in references]) for name in references[0]}
    worst, failures = math.inf, []
    for what, sample, reference in asked:
        engine.begin()
        found = _executed(engine, sample)
        for name, expected in reference.items():
            if not expected.is_floating_point():
                continue
            got = _like(found[name], expected)
            snr = compare(expected, got, size=sizes[name]).snr_db if expected.shape == got.shape else -math.inf
            snr = -math.inf if math.isnan(snr) else snr
            if not limit.holds(snr):
                others = [other[name] for other in doubts(sample)]
                snr = max(snr, _beside(expected, got, others, sizes[name]))
            worst = min(worst, snr)
            if not limit.holds(snr):
                failures.append(f"{name}: {snr:.1f} dB on {what}, and the limit is {limit.min:g}")
    values = {**report.values, "stress": {"snr_db": worst, "inputs": len(asked)}}
    reason = "; ".join(failures) if failures else report.reason
    return replace(report, values=values, passed=not failures, reason=reason)


def _beside(expected: torch.Tensor, got: torch.Tensor, others: Sequence[torch.Tensor], size: float) -> float:
    """The signal against what is left of the error beyond MULTIPLE times the original's own rounding."""
    same = [other for other in others if other.shape == got.shape]
    if not same or not bool(torch.isfinite(got).all()):
        return -math.inf
    signal = max(float((expected.double() ** 2).sum()), size**2)
    own = max(float((expected.double() - other.double()).norm()) for other in same)
    error = float((expected.double() - got.double()).norm())
    return decibels(signal, max(error - MULTIPLE * own, 0.0) ** 2)


def refuse_difference(proof: Proof, name: str) -> None:
    """Raise CheckError where the ends are not the same."""
    if proof.failure is not None:
        raise CheckError(
            f"{name} does not compute what the original computes: {proof.failure}",
            code="B0501",
            record=proof,
            hint="nothing was written; another format, or a newer version of what executes this one, may hold it",
        )
