"""The limits that checks have unless the recipe says others, each with its reason."""

from __future__ import annotations

from builder.spec import BuildSpec
from builder.spec.base import Limit
from builder.spec.checks import ComparisonLimits, ParityCheck
from builder.spec.compression_kinds import compression_kind
from builder.spec.precision import Fp32

CAPTURE = {"snr_db": Limit(min=90.0), "agreement": Limit(min=0.999)}
"""The captured program runs the same fp32 kernels; fused or re-ordered ones round differently, over 100 dB. Of integers
one in a thousand may be a tie that falls the other way."""

SOUND = {"nan_count": Limit(max=0)}
"""Whatever the precision and compression: a NaN is never an answer. (An infinite or too large value is, where the model
itself gives one in float32, so overflows are counted and left to the recipe; where it does not, the SNR is lost.)"""

NO_SCALE = 1e-3
"""Where the original is nearly zero for every sample, the artifact may be so far from it and is not judged: what half
precision leaves of the difference of two numbers about 1."""

HALF = {"snr_db": Limit(min=30.0), "agreement": Limit(min=0.98)}

PARITY = {
    "fp32": {"snr_db": Limit(min=80.0), "agreement": Limit(min=0.999)},
    "mixed": HALF,
    "fp16": HALF,
    "auto": HALF,
}
"""By precision. Correct fp32 artifacts measure over 100 dB; half rounds to 11 bits (66 dB) at each operator, which adds
up over a deep net to 50 dB, and 34 dB on MobileNet-like nets: under 30 dB something other than rounding is wrong. Of
classes by argmax, rounding to half turns those that nearly tie, under 1 % of the pixels of a segmentation."""

BOXES = {"fp32": Limit(min=0.99), "mixed": Limit(min=0.9), "fp16": Limit(min=0.9)}
"""By precision, of the boxes that a detector keeps. Which of two boxes that nearly tie stays, and which score is just
over the threshold, is decided by the last bits."""

BOXES_OF_PROPOSALS = Limit(min=0.65)
"""The same in half precision for a detector of two stages: the last bits also decide which proposals there are, each of
which gives another box. Measured on seeded weights, whose scores are spread evenly, with a backbone of 38 dB: 4 in 100
proposals are others, 0.84 of the boxes are the same, 0.76 of some 30 in the worst of 6 pictures. That each candidate is
right is what `snr_db` says, which compares it with the same proposal's."""

STATE = {"snr_db": Limit(min=50.0), "agreement": Limit(min=0.99)}
"""A state is kept in half whatever the precision: 66 dB when it is written, less where it feeds itself."""

COMPRESSED = {8: Limit(min=20.0), 6: Limit(min=10.0)}
"""By the bits of a weight: 6 to 8 dB below the worst that was measured, where something else than rounding is wrong.

Worst SNR in dB over pictures, artifact (fp16, iOS 18) against the model, coremltools 9.0. The digits are trained and
have 16 samples; the others have seeded weights, which are spread evenly and so lose more when pruned (3 samples; a ViT
of 4 layers and width 128 at 64 x 64, both others at 128 x 128):

| method                         | digits_mobilenet | ViT  | ResNet-18 | MobileNetV2 |
| ------------------------------ | ---------------- | ---- | --------- | ----------- |
| none (fp16)                    | 58.5             | 58.9 | 61.9      | 48.4        |
| int8, per channel              | 57.0             | 38.9 | 41.4      | 31.0        |
| int8, per tensor               |                  | 39.1 | 38.4      | 29.2        |
| uint8, asymmetric, per channel |                  | 38.0 | 40.5      | 31.6        |
| palettize 8, k-means           | 51.9             | 41.0 | 39.6      | 30.5        |
| palettize 8, uniform           |                  | 40.9 | 29.0      | 26.4        |
| int8, then palettize 8         |                  | 38.9 | 41.4      | 31.0        |
| palettize 6, k-means           | 45.2             | 30.7 | 27.0      | 19.4        |
| palettize 6, then int8 tables  |                  | 30.5 | 26.1      | 18.5        |
| palettize 6, uniform           |                  | 28.0 | 25.8      | 18.1        |
| palettize 4, k-means           | 32.2             | 18.2 | 15.5      | 10.6        |
| int4, blocks of 32             | 33.5             | 14.4 | 17.0      | 11.9        |
| palettize 3, k-means           |                  | 5.7  | 10.9      | 7.2         |
| palettize 2, k-means           | 6.0              | 4.5  | 7.2       | 4.3         |
| prune 25 %                     |                  | 7.6  | 11.8      | 7.9         |
| prune 50 %                     | 7.7              | 0.8  | 4.4       | 3.0         |

With 4 bits and less and with pruning, what is left of the signal depends on the model: useful artifacts (98 % of the
digits at 7.7 dB) and useless ones overlap, so no general limit is given, and a recipe says its own or checks accuracy.
"""


def parity_limits(spec: BuildSpec, given: ComparisonLimits) -> dict[str, Limit]:
    """The limits by precision and compression, each replaced where the recipe gives its own.

    Empty where neither says anything: no general limit is known for coarser compressions.
    """
    known: dict[str, Limit] = {}
    if not spec.compression:
        known = STATE if spec.state and isinstance(spec.precision, Fp32) else PARITY[spec.precision.kind]
    else:
        least = min(compression_kind(step).bits(step) for step in spec.compression.values())
        known = next(({"snr_db": limit} for bits, limit in COMPRESSED.items() if least >= bits), {})
    return {**known, **given_limits(given)}


def boxes_limits(spec: BuildSpec, given: ParityCheck, *, proposals: bool) -> dict[str, Limit]:
    """The limit on the share of boxes that both keep; none is known for compressed weights.

    `proposals` says whether the detector has two stages.
    """
    precision = spec.precision.kind
    limit = BOXES_OF_PROPOSALS if proposals and not isinstance(spec.precision, Fp32) else BOXES[precision]
    known = {} if spec.compression else {"boxes_matched": limit}
    return known if given.boxes_matched is None else {"boxes_matched": given.boxes_matched}


def capture_limits(given: ComparisonLimits) -> dict[str, Limit]:
    """The limits of equal fp32 kernels, each replaced where the recipe gives its own."""
    return {**CAPTURE, **given_limits(given)}


def given_limits(given: ComparisonLimits) -> dict[str, Limit]:
    """The limits that the recipe itself says, by measure."""
    limits = {name: getattr(given, name) for name in ComparisonLimits.model_fields}
    return {name: limit for name, limit in limits.items() if limit is not None}
