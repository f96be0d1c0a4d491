"""Which predictions of a plan are recorded, and which replay a recording."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from coreml_runtime.executor import Execution, Frame, execute
from coreml_runtime.ops.table import Value
from coreml_runtime.plan import Plan
from coreml_runtime.recorded import Function, Recording, available, record

_RECORDED_AT = 6
"""The prediction with inputs of one layout that is recorded: a recording costs what ten of its replays save."""
_SECONDS_A_STEP = 5e-4
"""Where a step takes longer, what Python does between steps is not worth a recording."""
_MOST = 8
"""Layouts of inputs that are counted and recorded."""

Layout = tuple[tuple[torch.dtype, torch.Size, tuple[int, ...]], ...]


@dataclass(kw_only=True)
class _Seen:
    """How often a plan was executed for one layout, the processor time of the last one in seconds, its recording."""

    count: int = 0
    seconds: float = 0.0
    recording: Recording | None = None


@dataclass(kw_only=True)
class Replays:
    """The recordings of a plan, by the layout of inputs.

    A recording has the same bits as the plan, so that nobody sees which of the two computed.
    """

    seen: dict[Layout, _Seen] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def execute(self, plan: Plan, frame: Frame, execution: Execution) -> tuple[Value, ...]:
        """The outputs of a plan for the inputs in `frame`."""
        inputs = [frame[slot] for _, slot in plan.inputs]
        if not all(type(each) is Tensor for each in inputs) or torch._C._get_tracing_state() is not None:
            return execute(plan.block, frame, execution)
        layout = tuple((each.dtype, each.shape, each.stride()) for each in inputs)
        seen = self._seen(layout)
        if seen is None:
            return execute(plan.block, frame, execution)
        if seen.recording is not None:
            try:
                return seen.recording(inputs)
            except RuntimeError:  # the plan says in which operator it was
                return execute(plan.block, frame, execution)
        seen.count += 1
        if seen.count == _RECORDED_AT and seen.seconds <= _SECONDS_A_STEP * len(plan.block.steps) and available():
            with self._lock:
                outputs, seen.recording = record(_runner(plan, frame, execution), inputs)
                return outputs
        started = time.thread_time()
        outputs = execute(plan.block, frame, execution)
        seen.seconds = time.thread_time() - started
        return outputs

    def _seen(self, layout: Layout) -> _Seen | None:
        """What is known of a layout; None where there were too many others."""
        found = self.seen.get(layout)
        if found is None and len(self.seen) < _MOST:
            found = self.seen.setdefault(layout, _Seen())
        return found


def _runner(plan: Plan, frame: Frame, execution: Execution) -> Function:
    """A plan as a function of its inputs."""

    def run(values: Sequence[Tensor]) -> tuple[Value, ...]:
        own = list(frame)
        for (_, slot), value in zip(plan.inputs, values, strict=True):
            own[slot] = value
        return execute(plan.block, own, execution)

    return run
