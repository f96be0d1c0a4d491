"""Every kind of check, with one object that answers what is asked of it.

To add a kind: one file with its settings and its function, one entry in `CHECKS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.spec.base import Part
from builder.spec.checks import AccuracyCheck, CaptureCheck, ParityCheck, StructureCheck
from builder.spec.kinds import kind_of_settings, name_of, table, union


@dataclass(frozen=True, kw_only=True)
class CheckKind:
    """One kind of verdict on a build."""

    settings: type[Part]
    """What a recipe says of it; its `kind` is the name."""
    run: str
    """`package.module:function`, which yields reports; its parameters are among `name`, `check`, `subject`, `carry`
    and `check_name`, which is the name without that of a function of the artifact."""
    executes: bool = False
    """Whether it executes the artifact on data."""
    by_output: bool = False
    """Whether it compares each output of its own, so that its measures are by output."""
    looked_at: str = ""
    """What reports say that was looked at, where it does not execute the artifact."""
    claim: str = ""
    """What it proves where it passes, for people; of several kinds the first says it."""

    @property
    def name(self) -> str:
        """What a recipe writes as `kind`."""
        return name_of(self.settings)


CHECKS = table(
    CheckKind(settings=StructureCheck, run="builder.checks.structure:structure_reports", looked_at="structure only"),
    CheckKind(
        settings=CaptureCheck,
        run="builder.checks.capture:capture_reports",
        by_output=True,
        looked_at="in PyTorch only",
    ),
    CheckKind(
        settings=ParityCheck,
        run="builder.checks.executed:parity_reports",
        executes=True,
        by_output=True,
        claim="It computes what the original computes",
    ),
    CheckKind(
        settings=AccuracyCheck,
        run="builder.checks.executed:accuracy_reports",
        executes=True,
        claim="It classifies labelled data as well as its limits demand",
    ),
)

if TYPE_CHECKING:
    Check = StructureCheck | CaptureCheck | ParityCheck | AccuracyCheck
else:
    Check = union(CHECKS)


def check_kind(check: Part) -> CheckKind:
    """The kind of these settings."""
    return kind_of_settings(CHECKS, check)


def check_named(name: str) -> CheckKind:
    """The kind that a recipe writes so, and reports name."""
    return next(kind for kind in CHECKS if kind.name == name)
