"""What lowerings ask of MIL variables and do to them: dtypes, sizes, constants."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from builder.backends.coreml.lowerings.broadcasting import broadcast_together
from builder.backends.coreml.lowerings.lowering import Builder, Var


def is_float(x: Var) -> bool:
    """Whether x is of a floating-point dtype."""
    from coremltools.converters.mil.mil import types

    return bool(types.is_float(x.dtype))


def is_integer(x: Var) -> bool:
    """Whether x is of an integer dtype; booleans are none."""
    from coremltools.converters.mil.mil import types

    return bool(types.is_int(x.dtype))


def is_bool(x: Var) -> bool:
    """Whether x is boolean."""
    from coremltools.converters.mil.mil import types

    return bool(types.is_bool(x.dtype))


def is_complex(x: Var) -> bool:
    """Whether x is complex: a pair of variables that coremltools carries along as one."""
    from coremltools.converters.mil.mil import types

    return bool(types.is_complex(x.dtype))


def complex_of(mb: Builder, real: Var, imaginary: Var) -> Var:
    """`real + imaginary i`, both of one shape.

    An open size of both may have two symbols, each made by the operator that computed it; coremltools takes these for
    unlike sizes. Given as one array, both have the first's.
    """
    if real.shape != imaginary.shape:
        both = mb.concat(values=[mb.expand_dims(x=part, axes=[0]) for part in (real, imaginary)], axis=0)
        real, imaginary = (mb.squeeze(x=slice_axis(mb, both, 0, n, n + 1), axes=[0]) for n in (0, 1))
    return mb.complex(real_data=real, imag_data=imaginary)


def is_constant(x: Var) -> bool:
    """Whether the value of x is known while the model is converted."""
    return getattr(x, "val", None) is not None


def promoted(*values: Var) -> list[Var]:
    """The values in their common dtype."""
    from coremltools.converters.mil.mil.ops.defs._utils import promote_input_dtypes

    return list(promote_input_dtypes(list(values)))


def as_float(x: Var) -> Var:
    """X, or as float32 where it is of integers or booleans."""
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

    return x if is_float(x) else mb.cast(x=x, dtype="fp32")


def dtype_name(x: Var) -> str:
    """MIL's name of its dtype: `fp32`, `int32`, `bool`."""
    from coremltools.converters.mil.mil.types.type_mapping import builtin_to_string

    return str(builtin_to_string(x.dtype))


def numpy_dtype(x: Var) -> Any:
    """The numpy dtype of x."""
    from coremltools.converters.mil.mil import types

    return types.nptype_from_builtin(x.dtype)


def zeros_like(mb: Builder, x: Var) -> Var:
    """Zeros of the shape and dtype of x."""
    import numpy as np

    if all(isinstance(size, int) for size in x.shape):
        return mb.const(val=np.zeros(x.shape, dtype=numpy_dtype(x)))
    return mb.fill(shape=mb.shape(x=x), value=numpy_dtype(x)(0))


def fixed_size(x: Var, axis: int, operator: str) -> int:
    """The size of an axis. Raises NotImplementedError where the app chooses it."""
    size = x.shape[axis]
    if not isinstance(size, Integral):  # numpy's own integers too
        raise NotImplementedError(
            f"{operator} over a flexible dimension is not converted: give axis {axis} a fixed size"
        )
    return int(size)


def fixed_shape(x: Var, operator: str) -> list[int]:
    """The sizes of all axes. Raises NotImplementedError where the app chooses one."""
    return [fixed_size(x, axis, operator) for axis in range(x.rank)]


def positive(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def slice_axis(mb: Builder, x: Var, axis: int, begin: Var | int | None, end: Var | int | None, step: int = 1) -> Var:
    """`x[..., begin:end:step, ...]` along one axis; None is the beginning or the end, a Var follows from sizes."""
    axis = positive(axis, x.rank)
    masks = [[i != axis or edge is None for i in range(x.rank)] for edge in (begin, end)]
    edges = [[0 if i != axis or edge is None else edge for i in range(x.rank)] for edge in (begin, end)]
    begins, ends = (
        values if all(isinstance(value, Integral) for value in values) else mb.concat(values=values, axis=0)
        for values in edges
    )
    steps = [step if i == axis else 1 for i in range(x.rank)]
    return mb.slice_by_index(x=x, begin=begins, end=ends, stride=steps, begin_mask=masks[0], end_mask=masks[1])


def take(mb: Builder, x: Var, axis: int, indices: Sequence[int]) -> Var:
    """The entries at constant indices along one axis: a slice where they follow each other, else a gather."""
    import numpy as np

    wanted = list(indices)
    if wanted == list(range(wanted[0], wanted[0] + len(wanted))):
        size = x.shape[positive(axis, x.rank)]
        return x if len(wanted) == size else slice_axis(mb, x, axis, wanted[0], wanted[-1] + 1)
    return mb.gather(x=x, indices=np.array(wanted, dtype=np.int32), axis=axis)


def selected(mb: Builder, condition: Var, a: Var, b: Var) -> Var:
    """`a` where the condition holds, else `b`, in their common dtype; all three broadcast.

    MIL takes the shape of the result from `a` and `b` alone: a larger condition makes a malformed program.
    """
    a, b = promoted(a, b)
    if not condition.shape == a.shape == b.shape and max(condition.rank, a.rank, b.rank):
        condition, a, b = broadcast_together(mb, [condition, a, b])
    return mb.select(cond=condition, a=a, b=b)


def all_axes(dim: Sequence[int] | int | None, rank: int) -> list[int]:
    """The axes of a reduction; none and an empty list are all of them."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(rank))
    return [positive(axis, rank) for axis in ([dim] if isinstance(dim, int) else dim)]
