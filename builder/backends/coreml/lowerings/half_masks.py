"""Masks made of float32's least number, in half precision: there it becomes infinity, and a row of nothing else NaN.

coremltools takes numbers beyond 1e38 for infinity and lets them overflow (apple/coremltools#2669). Masks of
transformers are made of `finfo.min`, and traces write infinity itself as 3.4e38. Delete this when the oldest version
that we support clamps them (9.1 does).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MASKED = 3e4
"""What stands for such a number: its exponential is 0, half precision holds it, and twice of it too."""

_BEYOND = 1e38
_MAKES_MASKS = {"mul", "add", "sub", "select", "fill"}
"""Users of such a constant that make masks; a limit (clip, maximum) stays what it is."""


@contextmanager
def finite_masks() -> Iterator[None]:
    """Within the block, the pass that turns a program to half precision makes masks finite first."""
    from coremltools.converters.mil.mil.passes.defs.quantization import AbstractQuantizationPass, FP16ComputePrecision
    from coremltools.converters.mil.mil.passes.helper import block_context_manager

    cast = AbstractQuantizationPass.apply
    clamp = block_context_manager(_clamp)

    def apply(self: Any, program: Any) -> None:
        if isinstance(self, FP16ComputePrecision):
            for function in program.functions.values():
                clamp(function)
        cast(self, program)

    AbstractQuantizationPass.apply = apply
    try:
        yield
    finally:
        AbstractQuantizationPass.apply = cast


def _clamp(block: Any) -> None:
    import numpy as np
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

    for op in list(block.operations):
        for inner in op.blocks:
            _clamp(inner)
        if op.op_type != "const" or not _is_mask(op):
            continue
        value = np.asarray(op.outputs[0].val)
        beyond = np.abs(value) >= _BEYOND
        finite = np.where(beyond, np.sign(value) * MASKED, value).astype(value.dtype)
        with mb.set_before_op(op):
            new = mb.const(val=finite if finite.ndim else finite[()])
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=new)


def _is_mask(op: Any) -> bool:
    """Whether a constant of float32 has numbers that half precision lacks, and makes masks alone."""
    import numpy as np
    from coremltools.converters.mil.mil import types

    (output,) = op.outputs
    users = {user.op_type for user in output.child_ops}
    if not users or not users <= _MAKES_MASKS or not output.is_tensor_or_scalar_of(dtype="fp32"):
        return False
    value = np.asarray(output.val)
    finite = value[np.isfinite(value)]
    return bool(types.is_float(output.dtype) and finite.size and np.abs(finite).max() >= _BEYOND)
