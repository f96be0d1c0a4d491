"""Integers of a model that pass what 32 bits hold: torch computes them in 64, and no artifact does."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import Sample
from builder.checks.samples import check_samples
from builder.checks.subject import Subject
from builder.data import default_data
from builder.data.stress_samples import stress_inputs
from builder.model.states import reset_states
from builder.spec.checks import ParityCheck
from builder.spec.functions import labelled

_LARGEST = 2**31 - 1
_SAMPLES = 8
"""How many samples, and how many stress inputs, the model runs on at most."""
_OURS = (str(Path(__file__).parents[2]), str(Path(torch.__file__ or "").parent), "<")


def with_wide_integers(reports: Sequence[CheckReport], subjects: Sequence[Subject]) -> tuple[CheckReport, ...]:
    """The reports; one of parity that failed says which operator of the model gives more than 32 bits hold."""
    found = list(reports)
    for subject in subjects:
        for check_name, check in subject.spec.checks.items():
            name = labelled(check_name, subject.function)
            failed = [i for i, r in enumerate(found) if r.name == name and r.passed is False]
            if not isinstance(check, ParityCheck) or not failed:
                continue
            samples = check_samples(check_name, check, subject)
            stress = stress_inputs(default_data(subject.spec), subject.spec.artifact_inputs, subject.spec.seed)
            tried = (*islice(samples, _SAMPLES), *islice((each.make() for each in stress), _SAMPLES))
            wide = wide_integers(subject, tried)
            if wide is not None:
                found[failed[0]] = replace(found[failed[0]], reason=f"{found[failed[0]].reason}; {wide}")
    return tuple(found)


def wide_integers(subject: Subject, samples: Iterable[Sample]) -> str | None:
    """The first operator of the model whose integers pass 32 bits on these samples, with its value and line."""
    module = subject.prepared.reference
    for sample in samples:
        reset_states(module, subject.prepared.states.values())
        with torch.no_grad(), _Widest() as widest, suppress(Exception):  # a size that the model refuses
            module(*sample.tensors.values())
        if widest.found is not None:
            name, value, place = widest.found
            return (
                f"the model computes integers of 64 bits, and the artifact of 32: `{name}` gives {value}{place}, "
                f"beyond {_LARGEST}"
            )
    return None


class _Widest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Keeps the first operator that gives an integer beyond 32 bits: its name, the value and where it was called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.found: tuple[str, int, str] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip it, torch imports all of `torch._dynamo` (a second), and nothing here is compiled."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        if self.found is None and isinstance(returned, torch.Tensor) and returned.dtype is torch.int64:
            beyond = returned[(returned > _LARGEST) | (returned < -_LARGEST - 1)] if returned.numel() else returned
            if beyond.numel():
                self.found = (func.overloadpacket.__name__, int(beyond[0]), _place())
        return returned


def _place() -> str:
    """Where the model's own code called torch, as ` (file.py:3)`."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(_OURS):
            return f" ({Path(frame.filename).name}:{frame.lineno})"
    return ""
