"""The limits that checks have unless the recipe says others, each with its reason."""

from __future__ import annotations

from builder.spec import BuildSpec
from builder.spec.base import Limit
from builder.spec.checks import ComparisonLimits
from builder.spec.compression import Compression, LinearQuantize, Palettize

CAPTURE = {"snr_db": Limit(min=90.0), "agreement": Limit(min=0.999)}
"""The captured program runs the same fp32 kernels; fused or re-ordered ones round differently, over 100 dB. Of integers
one in a thousand may be a tie that falls the other way."""

HALF = {"snr_db": Limit(min=30.0), "agreement": Limit(min=0.98)}

PARITY = {
    "fp32": {"snr_db": Limit(min=80.0), "agreement": Limit(min=0.999)},
    "mixed": HALF,
    "fp16": HALF,
}
"""By precision. Correct fp32 artifacts measure over 100 dB; half rounds to 11 bits (66 dB) at each operator, which adds
up over a deep net to 50 dB, and 34 dB on MobileNet-like nets: under 30 dB something other than rounding is wrong. Of
classes by argmax, rounding to half turns those that nearly tie, under 1 % of the pixels of a segmentation."""

STATE = {"snr_db": Limit(min=50.0), "agreement": Limit(min=0.99)}
"""A state is kept in half whatever the precision: 66 dB when it is written, less where it feeds itself."""

EIGHT_BIT_SNR = Limit(min=15.0)
"""8 bits a weight are 40 to 50 dB a layer, 6 bits about 30; over 50 layers of a small net about 15 dB are left."""


def parity_limits(spec: BuildSpec, given: ComparisonLimits) -> dict[str, Limit]:
    """The limits by precision and compression, each replaced where the recipe gives its own.

    Empty where neither says anything: no general limit is known for coarser compressions.
    """
    known: dict[str, Limit] = {}
    if not spec.compression:
        known = STATE if spec.state and spec.precision.kind == "fp32" else PARITY[spec.precision.kind]
    elif all(_keeps_six_bits(step) for step in spec.compression.values()):
        known = {"snr_db": EIGHT_BIT_SNR}
    return {**known, **given_limits(given)}


def capture_limits(given: ComparisonLimits) -> dict[str, Limit]:
    """The limits of equal fp32 kernels, each replaced where the recipe gives its own."""
    return {**CAPTURE, **given_limits(given)}


def given_limits(given: ComparisonLimits) -> dict[str, Limit]:
    """The limits that the recipe itself says, by measure."""
    limits = {name: getattr(given, name) for name in ComparisonLimits.model_fields}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _keeps_six_bits(step: Compression) -> bool:
    if isinstance(step, LinearQuantize):
        return step.dtype in ("int8", "uint8")
    return isinstance(step, Palettize) and step.nbits >= 6
