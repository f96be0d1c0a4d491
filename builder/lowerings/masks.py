"""What transformers makes attention masks from: `new_ones`, and `&` of exported programs.

Delete each when coremltools has it (9.0 and 9.1.dev1 do not).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def new_ones(context: Any, node: Any) -> None:
    """`x.new_ones(size, dtype)`: ones of the dtype that is asked for, of x's own unless one is."""
    import numpy as np
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE, _get_inputs
    from coremltools.converters.mil.mil import types

    inputs = _get_inputs(context, node)
    size = mb.concat(values=inputs[1], axis=0) if isinstance(inputs[1], list) else inputs[1]
    number = inputs[2].val if len(inputs) > 2 and inputs[2] is not None else None
    dtype = types.nptype_from_builtin(inputs[0].dtype) if number is None else NUM_TO_NUMPY_DTYPE[number]
    if size.val is not None:
        ones = mb.const(val=np.ones(tuple(size.val), dtype=dtype), name=node.name)
    else:
        ones = mb.fill(shape=size, value=dtype(1), name=node.name)
    context.add(ones)


def bitwise_and(context: Any, node: Any) -> None:
    """`x & y`, which exported programs call `__and__`."""
    from coremltools.converters.mil.frontend.torch import ops

    ops.bitwise_and(context, node)


MASKS: Mapping[str, Callable[[Any, Any], None]] = {"new_ones": new_ones, "__and__": bitwise_and}
