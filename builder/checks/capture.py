"""The captured program computes what the eager model computes, on several inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

from builder.artifacts.checks import CheckReport
from builder.checks.comparison import judge
from builder.checks.limits import capture_limits, given_limits
from builder.checks.subject import Subject
from builder.data import default_data, draw_samples
from builder.model.sources.coreml import has_file, unrounded
from builder.spec.checks import CaptureCheck


def capture_reports(name: str, check: CaptureCheck, subject: Subject) -> Iterator[CheckReport]:
    """The one report of the check."""
    yield check_capture(name, check, subject)


def check_capture(name: str, check: CaptureCheck, subject: Subject) -> CheckReport:
    """Run both on the example that was captured and on others, which show what capture froze."""
    data = default_data(subject.spec)
    samples = draw_samples(data, subject.spec.artifact_inputs, check.samples, subject.spec.seed, vary=True)
    subject.reset()
    others = subject.other_outputs(subject.prepared.module, samples)
    # what is captured of a finished file by its operators rounds nothing to half, as the file does
    is_file = subject.captured.method == "export" and has_file(subject.prepared.module)
    run = subject.run_original if is_file else subject.known_original
    with unrounded(subject.prepared.module) if is_file else nullcontext():
        references = [run(subject.prepared.module, sample) for sample in samples]
    subject.reset()  # a trace keeps its states in the buffers of the module that was traced
    report = judge(
        name=name,
        kind=check.kind,
        engine="none",
        references=references,
        results=[subject.known_captured(sample) for sample in samples],
        scores=None,
        limits=capture_limits(check),
        others=others,
        given=given_limits(check),
    )
    return replace(report, data=samples.described())
