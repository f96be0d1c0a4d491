"""What a check that still runs can say already: each measure is the worst over samples, so it only gets worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from builder.checks.comparison import Outputs
from builder.progress import Bound
from builder.util.measures import compare, typical_size, where_finite, why_meaningless


def output_sizes(references: Sequence[Outputs]) -> dict[str, float]:
    """The typical size of a value, for each output of floats that proves something; by all samples of a check."""
    outputs = {name: [reference[name] for reference in references] for name in references[0]}
    return {
        name: typical_size(values)
        for name, values in outputs.items()
        if values[0].is_floating_point() and why_meaningless(values) is None
    }


def parity_bounds(name: str, sizes: Mapping[str, float], reference: Outputs, result: Outputs) -> dict[str, Bound]:
    """Bounds by output from the newest sample: the final value is the worst over all of them.

    `sizes` are those of the outputs over all samples, so nothing is said of outputs that prove nothing.
    """
    found: dict[str, Bound] = {}
    for output, size in sizes.items():
        if reference[output].shape != result[output].shape:
            continue
        expected, got = where_finite(reference[output], result[output])
        difference = compare(expected, got, size=size)
        prefix = f"checks.{name}.{output}"
        found |= {
            f"{prefix}.max_abs": Bound(at_least=difference.max_abs),
            f"{prefix}.relative_error": Bound(at_least=difference.relative_error),
            f"{prefix}.snr_db": Bound(at_most=difference.snr_db),
        }
        if float(np.square(expected).sum()) >= size**2:
            found[f"{prefix}.cosine"] = Bound(at_most=difference.cosine)
    return found


def accuracy_bounds(name: str, right: int, original_right: int, done: int, total: int) -> Mapping[str, Bound]:
    """Bounds after `done` of `total` samples: at best all that are left are right, where the original is wrong."""
    left = total - done
    return {
        f"checks.{name}.accuracy": Bound(at_most=(right + left) / total),
        f"checks.{name}.drop": Bound(at_least=(original_right - right - left) / total),
    }
