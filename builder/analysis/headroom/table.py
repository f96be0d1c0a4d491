"""All rules about numbers: what each finds, what it rests on, and what helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.analysis.headroom import patterns, ranges
from builder.analysis.headroom.judged import Find

_BINARY16 = "IEEE 754-2019, binary16: 11 bits, at most 65504, full precision from 6.1e-5"
_BINARY = (
    "IEEE 754-2019: binary16 has 11 bits and holds all integers up to 2048, binary32 has 24 and holds them up to 2^24"
)
_HIGHAM = "N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 1.9"
_SOFTMAX = (
    "P. Blanchard, D. J. Higham and N. J. Higham, Accurately computing the log-sum-exp and softmax functions, "
    "IMA Journal of Numerical Analysis 41 (2021)"
)
_CASTS = "MIL, cast (https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html)"
_INT16 = "coremltools, mil/passes/defs/cleanup and quantization.py: add_int16_cast makes indices 16 bits wide"
_FLOAT32 = "keep the module in float32 (`precision: {kind: mixed, fp32_modules: […]}`)"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is found, and how much it says."""

    find: Find
    sources: tuple[str, ...]
    advice: str


RULES: Mapping[str, Rule] = {
    "half_overflow": Rule(
        find=ranges.half_overflow,
        sources=(_BINARY16,),
        advice=f"{_FLOAT32}, or scale values down before and up afterwards; where no app gives such inputs, "
        "declare `low` and `high`",
    ),
    "half_underflow": Rule(
        find=ranges.half_underflow,
        sources=(_BINARY16,),
        advice=f"{_FLOAT32}, or fold the factor into the weights that follow",
    ),
    "exp_overflow": Rule(
        find=ranges.exp_overflow,
        sources=(_SOFTMAX,),
        advice=f"subtract the largest value first, as softmax and logsumexp do, clamp, or {_FLOAT32}",
    ),
    "cancellation": Rule(
        find=patterns.cancellation,
        sources=(_HIGHAM,),
        advice=f"compute the mean of (x - mean)^2, as torch.var does, or {_FLOAT32}",
    ),
    "log_of_softmax": Rule(
        find=patterns.log_of_softmax,
        sources=(_SOFTMAX,),
        advice="use torch.log_softmax, or give the app the scores before the softmax",
    ),
    "half_constant": Rule(
        find=patterns.half_constant,
        sources=(_BINARY16,),
        advice="use torch.where or masked_fill with -1e4, which half precision holds",
    ),
    "integer_in_float": Rule(
        find=ranges.integer_in_float,
        sources=(_BINARY,),
        advice=f"keep integers integers (`.long()`, integer arithmetic), or {_FLOAT32}",
    ),
    "integer_cut": Rule(
        find=ranges.integer_cut,
        sources=(_INT16, _CASTS),
        advice="declare the range of the input (`low`, `high`), or look at fewer rows at a time",
    ),
    "saturating_cast": Rule(
        find=ranges.saturating_cast,
        sources=(_CASTS,),
        advice="clamp on purpose, or scale before the conversion",
    ),
    "counter_stops": Rule(
        find=patterns.counter_stops,
        sources=(_BINARY,),
        advice="count in the app and give the model the number, or count modulo something small",
    ),
    "zero_division": Rule(
        find=ranges.zero_division,
        sources=("IEEE 754-2019, section 7.3: division by zero",),
        advice="clamp the divisor to something that half precision holds, such as 1e-4 (1e-8 is zero there)",
    ),
}
"""By the name that a recipe accepts it by; the page docs/reference/lint.md is written from them."""
