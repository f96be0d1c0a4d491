"""The values of a program's operators on some inputs, in float32 throughout, so that nothing overflows unseen."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.executor import Step
from coreml_runtime.model import build_model
from coreml_runtime.observed import run_observed
from coreml_runtime.package import open_package, program_package

LEAST = 2
"""So many inputs are executed however long it takes."""


@dataclass(kw_only=True)
class Values:
    """What was seen of one value, over all inputs; infinities are left out, since those of masks are meant."""

    low: float = math.inf
    high: float = -math.inf
    least: float = math.inf
    """The smallest magnitude, of those that are asked for."""
    lost_bits: float = 0.0
    """Of a difference: by how many bits its largest value is below that of its operands, for the worst input."""

    @property
    def magnitude(self) -> float:
        """The largest magnitude; 0 where nothing finite was seen."""
        return max(abs(self.low), abs(self.high)) if self.low <= self.high else 0.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All values of a program by name."""

    values: Mapping[str, Values]
    inputs: tuple[int, ...]
    """The numbers of the inputs that were executed."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is looked at besides the largest values."""

    divisors: Collection[str] = ()
    """Values of which the smallest magnitude matters."""
    differences: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By name of a difference, those of its operands."""


def look(
    path: Path, inputs: Iterable[Mapping[str, object]], wanted: Wanted, *, function: str | None = None, seconds: float
) -> Seen:
    """Execute a program on inputs until `seconds` of processor time are over; inputs that it refuses are left out.

    States go on from input to input, as in an app. Raises RuntimeFailure where the file cannot be executed at all.
    """
    model = build_model(program_package(open_package(path)), function=function, precision="fast")
    state = model.make_state() if model.states else None
    values: dict[str, Values] = {}
    until = time.thread_time() + seconds
    executed: list[int] = []
    for number, sample in enumerate(inputs):
        if len(executed) >= LEAST and time.thread_time() > until:
            break
        run = _Run(values=values, wanted=wanted)
        try:
            given = {name: value for name, value in sample.items() if name in model.inputs}
            run_observed(model, given, run.observe, state=state)
        except RuntimeFailure:
            continue
        run.compare()
        executed.append(number)
    return Seen(values=values, inputs=tuple(executed))


@dataclass(kw_only=True)
class _Run:
    """One execution."""

    values: dict[str, Values]
    wanted: Wanted
    largest: dict[str, float] = field(default_factory=dict)

    def observe(self, _step: Step | None, name: str, value: torch.Tensor) -> None:
        """Count a value."""
        if not value.numel() or value.is_complex():
            return
        if value.dtype is torch.bool:
            return
        low, high = (float(bound) for bound in torch.aminmax(value))
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = value[value.isfinite()]
            if not finite.numel():
                return
            low, high = float(finite.min()), float(finite.max())
        found = self.values.setdefault(name, Values())
        found.low, found.high = min(found.low, low), max(found.high, high)
        self.largest[name] = max(abs(low), abs(high))
        if name in self.wanted.divisors:
            found.least = min(found.least, float(value.abs().min()))

    def compare(self) -> None:
        """Count what differences lost."""
        for name, operands in self.wanted.differences.items():
            largest = max((self.largest.get(each, 0.0) for each in operands), default=0.0)
            left = self.largest.get(name)
            if left is None or not largest:
                continue
            lost = math.log2(largest / left) if left else 24.0
            self.values[name].lost_bits = max(self.values[name].lost_bits, lost)
