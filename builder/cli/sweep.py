"""A sweep: every job in a process of its own, one after another, going on after failures."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.config.compose import compose, sweep
from builder.errors import BuilderError, ConfigurationError


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How one job of a sweep ended."""

    arguments: tuple[str, ...]
    exit_code: int
    seconds: float
    artifact: str = ""


def run_sweep(arguments: Sequence[str], *, outputs: Path, verbosity: int) -> int:
    """Build every job; returns the exit code of the first that failed. Nothing is built if all are wrong."""
    jobs = sweep(arguments)
    refused = {job: error for job in jobs if (error := _refusal(job))}
    if len(refused) == len(jobs):
        raise next(iter(refused.values()))
    results = []
    for number, job in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {' '.join(job)}", file=sys.stderr)
        if job in refused:
            print(refused[job].message, file=sys.stderr)
            results.append(JobResult(arguments=job, exit_code=refused[job].exit_code, seconds=0.0))
        else:
            results.append(_build(job, outputs, verbosity))
    print(summary(results), file=sys.stderr)
    for result in results:
        if result.artifact:
            print(result.artifact)
    return next((result.exit_code for result in results if result.exit_code), 0)


def _refusal(job: tuple[str, ...]) -> BuilderError | None:
    try:
        compose(job)
    except ConfigurationError as error:
        return error
    return None


def _build(job: tuple[str, ...], outputs: Path, verbosity: int) -> JobResult:
    """Build one job in a child process, which shows its progress itself."""
    flags = ["-q"] * -verbosity + ["-v"] * verbosity
    command = [sys.executable, "-m", "builder", *job, "--outputs", str(outputs), *flags]
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    # A child that a signal ended (out of memory, a crash of native code) has a negative code.
    code = done.returncode if done.returncode >= 0 else 1
    artifact = lines[-1] if lines and code == 0 else ""
    return JobResult(arguments=job, exit_code=code, seconds=time.monotonic() - started, artifact=artifact)


def summary(results: Sequence[JobResult]) -> str:
    """Return the table at the end: result, time and arguments of every job."""
    rows = [("exit", "seconds", "job", "artifact")]
    rows += [(str(r.exit_code), f"{r.seconds:.1f}", " ".join(r.arguments), r.artifact or "-") for r in results]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    failed = sum(1 for result in results if result.exit_code)
    return "\n".join([*table, f"{len(results) - failed} of {len(results)} built"])
