"""What the conversion and each compression step on the program cost, executed by our runtime.

It is no verdict: limits hold for the sealed artifact, which is what the last step made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.artifacts import Conversion, MeasuredOutputs, MeasuredSteps
from builder.checks.comparison import Outputs, measure
from builder.checks.engine import run_program
from builder.checks.parity import with_numbers, without_rounding
from builder.checks.samples import check_samples
from builder.checks.subject import Subject
from builder.spec.checks import ParityCheck


def measure_steps(subject: Subject, programs: Sequence[Path]) -> MeasuredSteps:
    """Execute the converted program, and what each step made of it, on the samples of the first parity check.

    One program is in memory at a time, and of what they compute no more than that of two. Raises RuntimeFailure for a
    program that cannot be executed.
    """
    (name, check), *_ = subject.spec.parity_check.items()
    assert isinstance(check, ParityCheck)
    samples = check_samples(name, check, subject)
    subject.reset()
    original = [subject.run_original(subject.prepared.uncompressed, sample) for sample in samples]
    so_far: list[MeasuredOutputs] = []
    alone: list[MeasuredOutputs] = []
    before: Sequence[Outputs] = original
    with subject.progress.bar("measure", len(programs) * len(samples), unit="it") as advance:
        for path in programs:
            execute, results = run_program(path, subject), []
            for sample, reference in zip(samples, original, strict=True):
                results.append(with_numbers(reference, execute(sample)))
                advance(1)
            nearest = [without_rounding(subject, a, b) for a, b in zip(original, results, strict=True)]
            so_far.append(measure(original, nearest, subject.scores))
            alone.append(measure(before, results, subject.scores))
            before = results
    return MeasuredSteps(
        conversion=Conversion(outputs=so_far[0], samples=len(samples)),
        steps=tuple(zip(alone[1:], so_far[1:], strict=True)),
    )
