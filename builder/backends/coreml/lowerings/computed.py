"""Operators that take numbers alone, such as the window of a Fourier transform: torch computes them, once."""

from __future__ import annotations

from functools import partial
from typing import Any

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var

_LEFT_OUT = object()
_HOW = 4
"""Arguments that say how torch keeps the result, behind the others in a trace: dtype, layout, device, pinned."""
_NAMES = (
    *("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window"),
    *("tril_indices", "triu_indices", "logspace"),
)


def computed(
    name: str,
    mb: Builder,
    a: Any,
    b: Any = _LEFT_OUT,
    c: Any = _LEFT_OUT,
    d: Any = _LEFT_OUT,
    e: Any = _LEFT_OUT,
    f: Any = _LEFT_OUT,
    g: Any = _LEFT_OUT,
    h: Any = _LEFT_OUT,
    **_: Any,
) -> Var:
    """What torch's operator gives, in the dtypes that Core ML has. Raises NotImplementedError for sizes of the app."""
    import numpy as np
    import torch

    given = [each for each in (a, b, c, d, e, f, g, h) if each is not _LEFT_OUT]
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
