"""What is known of the values inside an artifact: by intervals from its inputs on, and as they were seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from builder.artifacts.findings import LintFinding

HALF_MAX = 65504.0
"""The largest finite value of half precision."""
HALF_NORMAL = 2.0**-14
"""Below it half precision loses bits."""


@dataclass(frozen=True, kw_only=True)
class OperatorRange:
    """The values of one operator's output, in float32 whether or not it computes in half precision."""

    name: str
    operator: str
    dtype: str
    """MIL's name of what the artifact holds them in: `fp16` or `fp32`."""
    low: float | None
    """No value is less, for any input in the domain; None where that is not known."""
    high: float | None
    proven: bool
    """Whether the artifact's own dtype holds all of it for any input in the domain, and of all that it depends on."""
    seen_low: float | None
    """The least value that was seen; None where nothing was executed."""
    seen_high: float | None
    module: str = ""
    """The path of its PyTorch module, empty where that is not known."""
    line: str = ""
    """The line of the model's code, likewise: `net.py:12`."""

    @property
    def bits(self) -> float | None:
        """By how many bits the largest value seen is below 65504; negative beyond it, None where none was seen."""
        return None if self.seen_low is None or self.seen_high is None else bits(self.seen_low, self.seen_high)

    @property
    def sure_bits(self) -> float | None:
        """The same of the bounds; None where there are none."""
        return None if self.low is None or self.high is None else bits(self.low, self.high)


def bits(low: float, high: float) -> float:
    """By how many bits values between `low` and `high` stay below 65504; infinite where all are zero."""
    largest = max(abs(low), abs(high))
    return math.inf if largest == 0 else math.log2(HALF_MAX / largest)


Outcome = Literal["proven", "open", "found"]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What one rule says of all operators that it is about."""

    rule: str
    sites: int
    """How many operators it looked at."""
    proven: int
    """For how many of them nothing can happen, for any input in the domain."""
    found: int

    @property
    def outcome(self) -> Outcome:
        """The one word for it."""
        return "found" if self.found else "proven" if self.proven == self.sites else "open"


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """The values of all operators of one function of an artifact, and what may go wrong with them."""

    function: str
    domain: tuple[str, ...] = ()
    """What inputs are taken to be, in words: `image: 0 to 255`."""
    seen_on: str = ""
    """What the program was executed on: `4 samples and 12 stress inputs`; empty where it was not."""
    operators: tuple[OperatorRange, ...] = ()
    """Those that compute, in the order of the program."""
    statements: tuple[Statement, ...] = ()
    findings: tuple[LintFinding, ...] = ()
    not_analysed: str = ""
    """Why nothing of this is known, where it is not."""

    @property
    def tightest(self) -> tuple[OperatorRange, ...]:
        """The operators in half precision, those with the least headroom first, as seen; where not, by the bounds."""
        half = [each for each in self.operators if each.dtype == "fp16"]
        return tuple(sorted(half, key=lambda each: _order(each.bits if each.bits is not None else each.sure_bits)))


def _order(value: float | None) -> float:
    return -math.inf if value is None else value


def headroom_of(stored: Mapping[str, Any]) -> Headroom:
    """From plain values, as the store has them."""
    findings = (
        LintFinding(**{**each, "examples": tuple(each["examples"]), "sources": tuple(each["sources"])})
        for each in stored["findings"]
    )
    return Headroom(
        **{
            **stored,
            "domain": tuple(stored["domain"]),
            "operators": tuple(OperatorRange(**each) for each in stored["operators"]),
            "statements": tuple(Statement(**each) for each in stored["statements"]),
            "findings": tuple(findings),
        }
    )
