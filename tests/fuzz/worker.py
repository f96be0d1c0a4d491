"""Runs examples of a target in forked processes, many in each, and watches them: exit codes, words, time, memory."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from builder.util.shared_record import SharedRecord
from builder.util.text import visible
from tests.fuzz.targets import Target

BATCH = 250
"""Examples in one process: what it imports late counts once for all of them, and what it does not free adds up."""
MOST_SECONDS = 60.0
"""After which one command hangs; on a machine that does other things as well."""
MOST_GROWTH = 256 << 20
"""Bytes by which a process may be larger at its end than after its first tenth."""
MOST_PEAK = 3 << 30
"""Bytes by which a process may ever be larger than the one it was forked from."""
_ALLOWED = frozenset((0, 2, 3, 4, 5, 6, 7))


@dataclass
class Total:
    """What came of a target."""

    examples: int = 0
    commands: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    growth: int = 0
    peak: int = 0
    seconds: float = 0.0
    batches: int = 0
    faults: list[str] = field(default_factory=list)


def fuzz(
    target: Target, count: int, start: int, keep: Path, seconds: float = math.inf, *, goes_on: bool = False
) -> Total:
    """Run `count` examples from the seed `start` on, or as many as `seconds` allow; what fails is copied to `keep`.

    With `goes_on` the batches that an earlier run with this seed did are not done again, and count.
    """
    keep = keep.absolute()
    done = keep / f"{target.name}-{start}.json"
    total, until = Total(), time.monotonic() + seconds
    if goes_on and done.exists():
        read = json.loads(done.read_text(encoding="utf-8"))
        total = Total(**{**read, "codes": Counter(read["codes"])})
    while total.examples < count and time.monotonic() < until:
        began, before = time.monotonic(), total.examples
        with tempfile.TemporaryDirectory(prefix="fuzz-") as room:
            _batch(target, min(BATCH, count - before), start * 100_003 + total.batches, Path(room), keep, total)
        total.batches += 1
        total.seconds += time.monotonic() - began
        if total.examples == before:
            total.faults.append(f"batch {total.batches}: not a single example was run")
            break
        keep.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(vars(total)), encoding="utf-8")
    return total


def _batch(target: Target, count: int, number: int, room: Path, keep: Path, total: Total) -> None:
    record = SharedRecord()
    results = room / "results.jsonl"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            _work(target, count, number, room, keep, results, record)
            code = 0
        except BaseException:
            record.note(traceback.format_exc()[-1500:])  # a fault of the fuzzer, or what passed every handler
        finally:
            os._exit(code)
    status, hung = _watched(child, record)
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for line in lines:
        total.commands += 1
        total.codes[str(line["code"])] += 1
        total.slowest = max(total.slowest, line["seconds"])
        if line["fault"]:
            total.faults.append(line["fault"])
    total.examples += len({line["example"] for line in lines}) + (1 if status else 0)
    if lines:
        total.growth = max(total.growth, lines[-1]["growth"])
        total.peak = max(total.peak, lines[-1]["peak"])
        if lines[-1]["growth"] > MOST_GROWTH or lines[-1]["peak"] > MOST_PEAK:
            total.faults.append(f"batch {number}: memory grew by {lines[-1]['growth']}, at most {lines[-1]['peak']}")
    if status:
        what = "hangs" if hung else f"ended its process (status {status})"
        place = _kept(room / "project", keep, f"{target.name}-{number}-end")
        total.faults.append("\n".join([f"{record.doing} {what}; {place}", *record.notes]))


def _watched(child: int, record: SharedRecord) -> tuple[int, bool]:
    """Wait for a batch; one whose command takes too long is killed."""
    last, since = "", time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status, False
        if record.doing != last:
            last, since = record.doing, time.monotonic()
        if time.monotonic() - since > MOST_SECONDS:
            os.killpg(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1], True
        time.sleep(0.05)


def _work(target: Target, count: int, number: int, room: Path, keep: Path, results: Path, record: SharedRecord) -> None:
    """In the child: draw examples, write each, and run its commands."""
    from builder.cli.main import run

    heard = (room / "heard").open("w+b")
    for stream in (1, 2):
        os.dup2(heard.fileno(), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["BUILDER_CACHE"] = str(room / "cache")
    first, done = _resident(), 0
    with results.open("w", encoding="utf-8", buffering=1) as written:

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(target.examples())
        def check(example: Callable[[Path], Sequence[Sequence[str]]]) -> None:
            nonlocal done, first
            project = room / "project"
            shutil.rmtree(project, ignore_errors=True)
            project.mkdir()
            os.chdir(project)
            outside = {path.name for path in room.iterdir()}
            for arguments in example(project):
                record.doing = f"{target.name} {number}/{done}: {visible(repr(list(arguments)))[:300]}"
                heard.seek(0)
                heard.truncate()
                began = time.monotonic()
                code = run([*arguments])
                sys.stdout.flush()
                sys.stderr.flush()
                heard.seek(0)
                said = heard.read().decode("utf-8", "replace")
                fault = _fault(code, said) or _escaped(outside, room)
                if fault:
                    place = _kept(project, keep, f"{target.name}-{number}-{done}")
                    fault = f"{record.doing}: {fault}; {place}"
                if done == count // 10:
                    first = _resident()
                line: dict[str, Any] = {"example": done, "code": code, "seconds": time.monotonic() - began}
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                line |= {"fault": fault, "growth": _resident() - first, "peak": peak}
                written.write(json.dumps(line) + "\n")
            done += 1

        check()
    os.chdir("/")


def _fault(code: int, said: str) -> str:
    """What is wrong with how a command ended; empty where it ended well."""
    if code not in _ALLOWED:
        return f"exit code {code}: {said[-1500:]}"
    if "Traceback (most recent call last)" in said:
        return f"a traceback: {said[-1500:]}"
    if visible(said) != said:
        return f"control characters: {visible(said)[-400:]}"
    if code and not said.strip():
        return f"exit code {code} without a word"
    if len(said) > 1 << 20:
        return f"{len(said)} characters of output"
    return ""


def _escaped(before: set[str], room: Path) -> str:
    more = {path.name for path in room.iterdir()} - before - {"cache"}
    return f"wrote outside of the project: {sorted(more)}" if more else ""


def _kept(project: Path, keep: Path, name: str) -> Path:
    """Copy the files of a failure, but for what never ends."""
    place = keep.absolute() / name
    if not place.exists() and project.is_dir():
        shutil.copytree(project, place, symlinks=True, ignore=_unreadable)
    return place


def _unreadable(folder: str, names: list[str]) -> list[str]:
    found = (Path(folder, name) for name in names)
    return [
        path.name
        for path in found
        if not (path.is_dir() or path.is_symlink() or (path.is_file() and path.stat().st_size < 1 << 28))
    ]


def _resident() -> int:
    with Path("/proc/self/statm").open(encoding="ascii") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()
