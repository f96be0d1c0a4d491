"""The program before compression, held to the limits of its precision.

What compression may cost would excuse much else: a logarithm of silence in half precision is 11 dB, and weights of six
bits may have 10. So the converted program is judged apart: before steps on it, and, where steps in PyTorch compressed
the model, against what they made of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import coreml_runtime as runtime
from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import PreparedModel, PreparedModules
from builder.backends import backend_of
from builder.checks.engine import Engine, named_outputs
from builder.checks.limits import PARITY, STATE
from builder.checks.parity import check_parity
from builder.checks.states import StateCarry
from builder.checks.subject import Subject
from builder.data import Samples
from builder.spec import BuildSpec
from builder.spec.base import Limit
from builder.spec.checks import ComparisonLimits, ParityCheck
from builder.spec.precision import Fp32

MOST_SAMPLES = 16
"""So many samples of the check it is judged on, beside stress inputs and the search: the artifact is on all."""
SHARE_DB = 10.0
"""Of the noise that a recipe's own limit allows, at most a tenth may come from something else than compression."""
APART = "apart from compression: "


def judged_apart(subject: Subject) -> bool:
    """Whether there is a program before compression whose outputs are compared as they are."""
    return subject.converted is not None and subject.prepared.suppression is None


def check_plain(name: str, check: ParityCheck, subject: Subject, samples: Samples) -> CheckReport:
    """Compare the converted program with the original, as an artifact without compression would be."""
    assert subject.converted is not None, "judged_apart"
    prepared = subject.prepared
    if prepared.module is not prepared.uncompressed:
        prepared = replace(prepared, modules=partial(_captured, prepared))
    plain = replace(subject, spec=subject.converted.spec, prepared=prepared, converted=None)
    carry = StateCarry()
    engine = _engine(subject.converted.path, plain, carry)
    return check_parity(name, _limited(check, plain.spec), plain, samples.first(MOST_SAMPLES), engine, carry)


def with_plain(report: CheckReport, plain: CheckReport) -> CheckReport:
    """The artifact's report, which fails where the program before compression does; the search was of that."""
    data = dict(report.data or {})
    if plain.data and "search" in plain.data:
        data["search"] = plain.data["search"]
    if plain.passed is not False:
        return replace(report, data=data)
    own = [report.reason] if report.passed is False and report.reason else []
    return replace(
        report,
        data=data,
        passed=False,
        reason="; ".join([*own, APART + str(plain.reason)]),
        failed_on=report.failed_on or plain.failed_on,
        worst_input=plain.worst_input or report.worst_input,
    )


def _captured(prepared: PreparedModel) -> PreparedModules:
    """The model as it was captured, where steps in PyTorch compressed it, in the place of the one before."""
    return replace(prepared.modules(), uncompressed=prepared.module)


class _States:
    """The states of a program by the names of the recipe, which some backends give them only when they seal it."""

    def __init__(self, state: runtime.State, names: Mapping[str, str]) -> None:
        self._state, self._names = state, names

    def read_state(self, name: str) -> np.ndarray:
        """A copy of it."""
        return self._state.read_state(self._names[name])

    def write_state(self, name: str, value: np.ndarray) -> None:
        """Set it."""
        self._state.write_state(self._names[name], value)


def _engine(path: Path, subject: Subject, carry: StateCarry) -> Engine:
    model, states = runtime.load(path), subject.prepared.states
    state = model.make_state() if model.states else None
    if state is not None:
        carry.artifact["runtime"] = _States(
            state, {name: name if name in model.states else re.sub(r"\W", "_", path) for name, path in states.items()}
        )
    feeds, names = backend_of(subject.sealed.format).feeds, subject.prepared.output_names
    return Engine(
        name="runtime",
        execute=lambda sample: named_outputs(model.predict(feeds(sample, subject.spec), state=state), names, subject),
    )


def _limited(check: ParityCheck, spec: BuildSpec) -> ParityCheck:
    """The check with the limits of the precision; where a recipe's own allow more noise, with a share of that."""
    own: dict[str, Limit | None] = dict.fromkeys(ComparisonLimits.model_fields)
    known = STATE if spec.state and isinstance(spec.precision, Fp32) else PARITY[spec.precision.kind]
    for measure, beyond in (("snr_db", SHARE_DB), ("agreement", 0.0)):
        given, usual = getattr(check, measure), known[measure].min
        if given is not None and given.min is not None and usual is not None and given.min + beyond < usual:
            own[measure] = Limit(min=given.min + beyond)
    return check.model_copy(update=own)
