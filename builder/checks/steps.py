"""What the conversion and each compression step on the program cost, executed by our runtime.

It is not a verdict: limits hold for the sealed artifact, which is what the last step made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.stages import Conversion, MeasuredOutputs, MeasuredSteps
from builder.checks.accuracy import best_classes, right_class
from builder.checks.comparison import Outputs, measure
from builder.checks.engine import run_program
from builder.checks.rounding import with_numbers, without_rounding
from builder.checks.samples import check_samples
from builder.checks.subject import Subject
from builder.spec.check_kinds import Check
from builder.spec.checks import AccuracyCheck, ParityCheck

if TYPE_CHECKING:
    from builder.artifacts.stages import Measure

MOST_SAMPLES = 16
"""On so many samples of the check each step is measured: it is not a verdict."""


def measure_steps(subject: Subject, programs: Sequence[Path]) -> MeasuredSteps:
    """Execute the converted program, and what each step made of it, on the samples of the first parity check.

    Where there is labelled data, `so_far` has the accuracy too; of the last program the check itself says it. One
    program is in memory at a time, and of what they compute no more than that of two. Raises RuntimeFailure for a
    program that cannot be executed.
    """
    (name, check), *labelled = subject.spec.measured_checks.items()
    assert isinstance(check, ParityCheck)
    samples = check_samples(name, check, subject)[:MOST_SAMPLES]
    answers = _Answers(*labelled[0], subject) if labelled else None
    work = len(programs) * len(samples) + (len(programs) - 1) * (len(answers.samples) if answers else 0)
    subject.reset()
    original = [subject.run_original(subject.prepared.uncompressed, sample) for sample in samples]
    so_far: list[dict[str, dict[str, Measure]]] = []
    alone: list[MeasuredOutputs] = []
    before: Sequence[Outputs] = original
    with subject.progress.bar("measure", work, unit="it") as advance:
        for path in programs:
            execute, results = run_program(path, subject), []
            for sample, reference in zip(samples, original, strict=True):
                results.append(with_numbers(reference, execute(sample)))
                advance(1)
            nearest = [without_rounding(subject, a, b) for a, b in zip(original, results, strict=True)]
            so_far.append(measure(original, nearest, subject.scores))
            if answers is not None and path != programs[-1]:
                so_far[-1][answers.output]["accuracy"] = answers.accuracy(path, advance)
            alone.append(measure(before, results, subject.scores))
            before = results
    return MeasuredSteps(
        conversion=Conversion(outputs=so_far[0], samples=len(samples)),
        steps=tuple(zip(alone[1:], so_far[1:], strict=True)),
    )


class _Answers:
    """The labelled samples of an accuracy check, and how many of them a program gets right."""

    def __init__(self, name: str, check: Check, subject: Subject) -> None:
        assert isinstance(check, AccuracyCheck)
        labels, output = subject.prepared.labels, subject.scores
        assert labels is not None, "compatibility demands a classifier"
        assert output is not None, "compatibility demands a classifier"
        self.output = output
        self.samples = check_samples(name, check, subject)
        self._subject = subject
        self._labels, self._key = labels, f"checks.{name}.data"

    def accuracy(self, path: Path, advance: Callable[[int], None]) -> float:
        """The share of right answers of a program."""
        execute, right = run_program(path, self._subject), 0
        for sample in self.samples:
            answer = best_classes(execute(sample)[self.output])[0]
            right += answer == right_class(sample.label, self._labels, key=self._key)
            advance(1)
        return right / len(self.samples)
