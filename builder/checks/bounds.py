"""What a check that still runs can say already: each measure is the worst over samples, so it only gets worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.checks.comparison import Outputs
from builder.progress import Bound
from builder.util.measures import compare, why_meaningless


def parity_bounds(name: str, references: Sequence[Outputs], results: Sequence[Outputs]) -> dict[str, Bound]:
    """Bounds by output from the newest sample: the final value is the worst over all of them.

    Nothing is said of outputs that may yet prove nothing, so nothing before the second sample.
    """
    found: dict[str, Bound] = {}
    for output, reference in references[-1].items() if len(references) > 1 else ():
        result = results[-1][output]
        proves_nothing = why_meaningless([earlier[output] for earlier in references[-2:]]) is not None
        if proves_nothing or reference.shape != result.shape or not reference.is_floating_point():
            continue
        difference = compare(reference, result)
        prefix = f"checks.{name}.{output}"
        found |= {
            f"{prefix}.max_abs": Bound(at_least=difference.max_abs),
            f"{prefix}.relative_error": Bound(at_least=difference.relative_error),
            f"{prefix}.snr_db": Bound(at_most=difference.snr_db),
            f"{prefix}.cosine": Bound(at_most=difference.cosine),
        }
    return found


def accuracy_bounds(name: str, right: int, original_right: int, done: int, total: int) -> Mapping[str, Bound]:
    """Bounds after `done` of `total` samples: at best all that are left are right, where the original is wrong."""
    left = total - done
    return {
        f"checks.{name}.accuracy": Bound(at_most=(right + left) / total),
        f"checks.{name}.drop": Bound(at_least=(original_right - right - left) / total),
    }
