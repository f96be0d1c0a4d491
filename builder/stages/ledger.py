"""Runs stages one after the other and keeps what each did: key, time, one line of result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from builder.artifacts import StageReport
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.store.keys import stage_key

Result = TypeVar("Result")


class Ledger:
    """The stages of one build so far."""

    def __init__(self, spec: BuildSpec, progress: Progress) -> None:
        self._spec = spec
        self._progress = progress
        self._reports: list[StageReport] = []

    @property
    def reports(self) -> tuple[StageReport, ...]:
        """What the stages so far did, in order."""
        return tuple(self._reports)

    def run(self, stage: str, work: Callable[[], Result], say: Callable[[Result], str], *content: str) -> Result:
        """Run a stage; its key follows from the stage before and the digests in `content`.

        `say` makes the line that people read.
        """
        before = [self._reports[-1].key] if self._reports else []
        self._progress.begin(stage)
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        key = stage_key(stage, self._spec, [*before, *content])
        line = say(result)
        self._reports.append(StageReport(name=stage, key=key, cached=False, seconds=seconds, result=line))
        self._progress.end(stage, seconds, line, cached=False)
        return result
