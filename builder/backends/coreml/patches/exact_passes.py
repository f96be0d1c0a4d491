"""What of coremltools changes results, made exact: whole numbers, floors, nearest neighbours.

- `add_int16_cast` casts int32 data of gather, gather_along_axis, gather_nd, squeeze and topk to 16 bits in programs of
  half precision for iOS 17 and later, whatever their values are (apple/coremltools#2222).
- `noop_elimination` removes `floor_div` by one, which takes the fraction off (apple/coremltools#2836).
- `fuse_linear_bias` raises IndexError where a scalar is added to a layer with one output, and drops the leading axes of
  a bias of more dimensions.
- `add_upsample_nn`, which writes nearest neighbours for a neural network, interpolates where a factor is not whole.
- `_add_elementwise_unary` gives a neural network an epsilon of 0, which there stands for none given: 1e-6.
- `_construct_constant` writes infinite numbers of traces as 3.4e38.
- `_calculate_dft_matrix` takes cosines of thousands of radians in float32: wrong by 1e-4 for 512 and more points.

Delete each when the oldest version of coremltools that we support does the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.fourier import waves
from builder.backends.coreml.patches.apply import patched

if TYPE_CHECKING:
    import numpy as np
    from coremltools.converters.mil.mil import Block, Operation, Var
    from coremltools.models.neural_network import NeuralNetworkBuilder

_PASSES = "coremltools.converters.mil.mil.passes.defs"

_MOST = {"uint16": 2**16 - 1, "int16": 2**15 - 1}


@contextmanager
def exact_passes() -> Iterator[None]:
    """Within the block, no pass changes what a program computes."""
    with (
        patched(f"{_PASSES}.quantization:add_int16_cast.should_cast_parameter", _only_what_is_held),
        patched(f"{_PASSES}.cleanup.noop_elimination:noop_elimination._match_pattern", _not_floors),
        patched(f"{_PASSES}.optimize_linear:fuse_linear_bias._try_to_transform", _biases_of_rank),
        patched(f"{_PASSES}.lower_complex_dialect_ops:_calculate_dft_matrix", _exact_waves),
        patched("coremltools.converters.mil.frontend.torch.ops:_construct_constant", _infinite_constants),
        patched("coremltools.converters.mil.backend.nn.op_mapping:add_upsample_nn", _picked_neighbours),
        patched("coremltools.converters.mil.backend.nn.op_mapping:_add_elementwise_unary", _with_least_epsilon),
    ):
        yield


def _not_floors(match: Callable[[Operation], object]) -> Callable[[Operation], object]:
    from coremltools.converters.mil.mil import types

    def match_exact(op: Operation) -> object:
        return None if op.op_type == "floor_div" and types.is_float(op.outputs[0].dtype) else match(op)

    return match_exact


def _biases_of_rank(transform: Callable[[Operation, Operation, Block], bool]) -> Callable[..., bool]:
    """Let no scalar be taken for a bias, and nothing that gives the result more dimensions."""

    def transform_exactly(linear: Operation, added: Operation, block: Block) -> bool:
        other = added.y if added.x == linear.outputs[0] else added.x
        return 0 < len(other.shape) <= linear.outputs[0].rank and transform(linear, added, block)

    return transform_exactly


def _infinite_constants(construct: Callable[[object, str], Var | None]) -> Callable[[object, str], Var | None]:
    """Infinity as a constant of the program."""

    def construct_exactly(value: object, name: str) -> Var | None:
        from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

        if isinstance(value, float) and math.isinf(value):
            return mb.const(val=value, name=name)
        return construct(value, name)

    return construct_exactly


def _exact_waves(calculate: Callable[..., tuple[Var, Var]]) -> Callable[..., tuple[Var, Var]]:
    """The cosines and sines (bins, N) of a transform of N points, as constants."""

    def calculate_exactly(n_fft: Var | int, onesided: bool = False) -> tuple[Var, Var]:
        import numpy as np
        from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

        size = getattr(n_fft, "val", n_fft)
        if size is None:
            return calculate(n_fft, onesided=onesided)
        count = int(size)
        cosines, sines = waves(count, count // 2 + 1 if onesided else count, count, 0)
        return mb.const(val=cosines.astype(np.float32)), mb.const(val=sines.astype(np.float32))

    return calculate_exactly


def _with_least_epsilon(write: Callable[..., None]) -> Callable[..., None]:
    def write_exactly(
        constants: set[str], builder: NeuralNetworkBuilder, op: Operation, mode: str, **kwargs: object
    ) -> None:
        if mode in ("rsqrt", "inverse") and kwargs.get("epsilon") == 0:
            kwargs["epsilon"] = _LEAST
        write(constants, builder, op, mode, **kwargs)

    return write_exactly


_LEAST = 1e-45
"""The least number beyond zero in float32, which coremltools takes for logarithms, too."""


def _picked_neighbours(write: Callable[..., None]) -> Callable[..., None]:
    """Pick the neighbours along each axis of (…, H, W) where their layer cannot: its factors are whole and at least 1.

    Raises NotImplementedError where a size is not known before the app gives it.
    """

    def write_exactly(
        constants: set[str], builder: NeuralNetworkBuilder, op: Operation, scale_factor_h: float, scale_factor_w: float
    ) -> None:
        from coremltools.converters.mil.backend.nn.op_mapping import make_input

        if all(factor >= 1 and abs(factor - round(factor)) < 1e-4 for factor in (scale_factor_h, scale_factor_w)):
            write(constants, builder, op, round(scale_factor_h), round(scale_factor_w))
            return
        result, x = op.outputs[0], make_input(constants, builder, op.x)
        for axis, name in ((-2, f"{op.name}_rows"), (-1, op.name)):
            old, new = op.x.shape[axis], result.shape[axis]
            if not (isinstance(old, Integral) and isinstance(new, Integral)):
                raise NotImplementedError(
                    "a neural network cannot resize a flexible size by a factor that is not whole"
                )
            output, places = result.name if axis == -1 else name, f"{name}_places"
            builder.add_load_constant_nd(
                places, places, constant_value=_neighbours(int(old), int(new)), shape=[int(new)]
            )
            builder.add_gather(name=name, input_names=[x, places], output_name=output, axis=axis)
            x = output

    return write_exactly


def _neighbours(old: int, new: int) -> np.ndarray:
    """The entry of `old` that each of `new` is, `floor(i * old / new)` in float32 as torch computes it."""
    import numpy as np

    step = np.float32(old) / np.float32(new)
    places: np.ndarray = np.minimum(np.floor(np.arange(new, dtype=np.float32) * step), old - 1)
    return places


def _only_what_is_held(
    should_cast: Callable[[object, Operation, str], bool],
) -> Callable[[object, Operation, str], bool]:
    """Cast a parameter to 16 bits only where they hold every value that it can have."""

    def should_cast_exactly(self: object, op: Operation, name: str) -> bool:
        given = op.inputs[name]
        if name == "output_indices_dtype":
            held = _is_at_most(op.x.shape[op.axis.val], "uint16")
        elif name == "indices" and given.val is None:
            held = all(_is_at_most(size, "int16") for size in _indexed_sizes(op))
        elif name == "x" and given.val is None:
            held = _holds_16_bits(given)
        else:
            held = True
        return held and should_cast(self, op, name)

    return should_cast_exactly


def _is_at_most(size: object, dtype: str) -> bool:
    return isinstance(size, int) and size <= _MOST[dtype]


def _indexed_sizes(op: Operation) -> list[object]:
    """The sizes of the axes that the indices count along."""
    if op.op_type != "gather_nd":
        return [op.x.shape[op.axis.val]]
    first = 0 if op.batch_dims is None else int(op.batch_dims.val)
    depth = op.indices.shape[-1]
    return list(op.x.shape[first : first + depth]) if isinstance(depth, int) else [None]


_MOVES = {"expand_dims", "reshape", "squeeze", "transpose", "slice_by_index", "slice_by_size", "identity"}
"""Operators that move elements alone."""


def _holds_16_bits(var: Var) -> bool:
    """Whether a variable's values come from 16 bits or less, or are places along an axis that short."""
    op = var.op
    if op is None:
        return False
    if op.op_type in _MOVES:
        return _holds_16_bits(op.x)
    if op.op_type == "cast":
        return op.x.is_tensor_or_scalar_of("bool") or any(
            op.x.is_tensor_or_scalar_of(dtype) for dtype in ("int16", "uint16", "int8", "uint8")
        )
    if op.op_type in ("reduce_argmax", "reduce_argmin"):
        return op.axis is not None and _is_at_most(op.x.shape[op.axis.val], "int16")
    return False
