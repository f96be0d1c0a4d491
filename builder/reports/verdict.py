"""What a record says in words: the verdict of each check, of the build, and the notices nobody may overlook."""

from __future__ import annotations

from builder.artifacts import BuildRecord, CheckReport
from builder.reports.plain import bounds, leaves, plain, value_text

_ENGINES = {"coreml": "Core ML", "runtime": "runtime", "none": "not executed"}
_WITHOUT_ARTIFACT = {"structure": "structure only", "capture": "in PyTorch only"}


def engine(check: CheckReport) -> str:
    """What executed the artifact for this check, or what was looked at instead."""
    if check.engine == "none" and check.kind in _WITHOUT_ARTIFACT:
        return _WITHOUT_ARTIFACT[check.kind]
    return _ENGINES[check.engine]


def verdict(check: CheckReport) -> str:
    """`passed`, `failed`, or `not proven` where a check could not run or means nothing."""
    return {True: "passed", False: "failed", None: "not proven"}[check.passed]


def headline(check: CheckReport) -> str:
    """The measured values that have limits, each with its limit; the reason where nothing was proven."""
    if check.passed is None:
        return check.reason or "no reason was given"
    values = dict(leaves(plain(check.values)))
    parts = [
        f"{name} {value_text(name, values[name])} ({bounds(limit, name=name)})"
        for name, limit in check.limits.items()
        if name in values and bounds(limit, name=name)
    ]
    if check.reason:
        parts.append(check.reason)
    return ", ".join(parts) or ", ".join(f"{name} {value_text(name, value)}" for name, value in _scalars(values)[:3])


def failed(record: BuildRecord) -> tuple[CheckReport, ...]:
    """The checks that missed a limit."""
    return tuple(check for check in record.checks if check.passed is False)


def outcome(record: BuildRecord) -> str:
    """One line on what is known of the artifact: how many checks passed, failed, or proved nothing."""
    if not record.checks:
        return "no check was asked for: nothing is known about what the artifact computes"
    counts = dict.fromkeys(("passed", "failed", "not proven"), 0)
    for check in record.checks:
        counts[verdict(check)] += 1
    noun = "check" if len(record.checks) == 1 else "checks"
    said = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{len(record.checks)} {noun}: {', '.join(said)}"


def seeded_notice(record: BuildRecord) -> str | None:
    """What to say loudly when the artifact has untrained weights."""
    if not record.seeded:
        return None
    return (
        "UNTRAINED WEIGHTS: the pretrained weights could not be had, so this artifact was built from seeded ones. "
        "It is good for trying the build, not for an app."
    )


def _scalars(values: dict[str, object]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in values.items() if not isinstance(value, (list, dict)) and "." not in name]
