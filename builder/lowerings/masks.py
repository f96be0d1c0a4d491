"""What transformers makes attention masks from: `new_ones`, and `&` of exported programs."""

from __future__ import annotations

from typing import Any

from builder.lowerings.lowering import Builder, Lowering, Var


def new_ones(mb: Builder, x: Var, size: Any, dtype: int | None = None, **_: Any) -> Var:
    """`x.new_ones(size, dtype)`: ones of the dtype that is asked for, of x's own unless one is."""
    import numpy as np
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE
    from coremltools.converters.mil.mil import types

    wanted = types.nptype_from_builtin(x.dtype) if dtype is None else NUM_TO_NUMPY_DTYPE[dtype]
    if isinstance(size, list) and all(isinstance(length, int) for length in size):
        return mb.const(val=np.ones(tuple(size), dtype=wanted))
    return mb.fill(shape=mb.concat(values=size, axis=0) if isinstance(size, list) else size, value=wanted(1))


MASKS = (Lowering(operator="new_ones", lower=new_ones),)
