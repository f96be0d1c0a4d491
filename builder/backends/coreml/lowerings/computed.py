"""Operators that take numbers alone, such as the window of a Fourier transform: torch computes them, once."""

from __future__ import annotations

from functools import partial

from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Unused, Var

_HOW = 4
"""Arguments that say how torch keeps the result, behind the others in a trace: dtype, layout, device, pinned."""
_NAMES = (
    *("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window"),
    *("tril_indices", "triu_indices", "logspace"),
)


def computed(name: str, mb: Builder, *given: Constant, **_: Unused) -> Var:
    """What torch's operator gives, in the dtypes that Core ML has. Raises NotImplementedError for sizes of the app."""
    import numpy as np
    import torch

    given = given[:-_HOW] if len(given) > _HOW else given
    if any(hasattr(each, "rank") for each in given):
        raise NotImplementedError(f"{name} of a size that only the app decides is not converted")
    value = getattr(torch, name)(*given).numpy()
    return mb.const(val=value.astype(np.float32 if np.issubdtype(value.dtype, np.floating) else np.int32))


COMPUTED = tuple(
    Lowering(operator=overload, lower=partial(computed, name), upstream_gap="exported programs")
    for name in _NAMES
    for overload in (
        *(name, f"{name}.periodic", f"{name}.periodic_alpha", f"{name}.periodic_alpha_beta", f"{name}.beta"),
    )
)
