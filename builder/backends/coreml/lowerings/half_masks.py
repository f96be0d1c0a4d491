"""Masks made of numbers that half precision lacks: there they become infinity, and a row of nothing else NaN.

coremltools takes numbers beyond 1e38 for infinity and lets them overflow (apple/coremltools#2669). Masks of
transformers are made of `finfo.min` or -1e9, and traces write infinity itself as 3.4e38. In float32 such a number also
swallows the score that it is added to, so that a row that is masked altogether is uniform; 3e4 in half does not.

Given:   %m = mul(x=%hidden, y=-1e9);  %s = add(x=%scores, y=%m);  %p = softmax(x=%s)
Result:  %m = mul(x=%hidden, y=-3e4);  %a = add(x=%scores, y=%m);  %s = select(cond=less(x=%m, y=-1.5e4), a=-3e4, b=%a)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Builder

if TYPE_CHECKING:
    import numpy as np
    from coremltools.converters.mil.mil import Block, Operation, Program, Var
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass

MASKED = 3e4
"""What stands for such a number: its exponential is 0, half precision holds it, and twice of it too."""

_BEYOND = 1e38
_LARGEST = 65504.0
"""Of half precision."""
_MAKES_MASKS = {"mul", "add", "sub", "select", "fill"}
"""Users of such a constant that make masks; a limit (clip, maximum) stays what it is."""
_MOVES = {
    "cast", "concat", "expand_dims", "identity", "reshape", "slice_by_index", "slice_by_size", "split", "squeeze",
    "tile", "transpose",
}  # fmt: skip
_ATTENDS = {"softmax", "scaled_dot_product_attention"}


@contextmanager
def finite_masks() -> Iterator[None]:
    """Within the block, the pass that turns a program to half precision makes masks finite first."""
    from coremltools.converters.mil.mil.passes.defs.quantization import AbstractQuantizationPass, FP16ComputePrecision
    from coremltools.converters.mil.mil.passes.helper import block_context_manager

    cast = AbstractQuantizationPass.apply
    clamp = block_context_manager(_clamp)

    def apply(self: AbstractGraphPass, program: Program) -> None:
        if isinstance(self, FP16ComputePrecision):
            for function in program.functions.values():
                clamp(function)
        cast(self, program)

    AbstractQuantizationPass.apply = apply
    try:
        yield
    finally:
        AbstractQuantizationPass.apply = cast


def _clamp(block: Block) -> None:
    import numpy as np
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

    masks: set[Var] = set()
    for op in list(block.operations):
        for inner in op.blocks:
            _clamp(inner)
        if op.op_type != "const" or not _is_mask(op):
            continue
        value = np.asarray(op.outputs[0].val)
        size = _LARGEST if _is_filled_in(op.outputs[0]) else MASKED
        finite = np.where(_is_beyond(value), np.sign(value) * size, value).astype(value.dtype)
        with mb.set_before_op(op):
            new = mb.const(val=finite if finite.ndim else finite[()])
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=new)
        masks.add(new)
    if masks:
        _absorb(mb, block, masks)


def _is_beyond(value: np.ndarray) -> np.ndarray:
    """Of a constant with numbers beyond 1e38 these, infinity too; else the finite ones beyond half precision."""
    import numpy as np

    size = np.abs(value)
    if (size[np.isfinite(value)] >= _BEYOND).any():
        return np.asarray(size >= _BEYOND)
    return np.asarray((size > _LARGEST) & np.isfinite(value))


def _is_mask(op: Operation) -> bool:
    """Whether a constant of float32 has numbers that half precision lacks, and makes masks alone."""
    import numpy as np

    (output,) = op.outputs
    users = {user.op_type for user in output.child_ops}
    if not users or not users <= _MAKES_MASKS | _MOVES or not output.is_tensor_or_scalar_of(dtype="fp32"):
        return False
    value = np.asarray(output.val)
    finite = np.abs(value[np.isfinite(value)])
    if not finite.size or finite.max() <= _LARGEST:
        return False
    return bool(users <= _MAKES_MASKS and finite.max() >= _BEYOND) or _is_attended(output, set())


def _is_filled_in(var: Var) -> bool:
    """Whether a number takes the place of scores, and softmax alone takes them: nothing is added to it."""
    return all(
        op.op_type == "select" and all(user.op_type == "softmax" for user in op.outputs[0].child_ops)
        for op in var.child_ops
    )


def _is_attended(var: Var, seen: set[Var]) -> bool:
    """Whether a softmax takes the variable, moved and added to others at most."""
    seen.add(var)
    for op in var.child_ops:
        if op.op_type in _ATTENDS:
            return True
        if op.op_type in _MAKES_MASKS | _MOVES and any(
            _is_attended(output, seen) for output in op.outputs if output not in seen
        ):
            return True
    return False


def _absorb(mb: Builder, block: Block, masks: set[Var]) -> None:
    """Let masks swallow what they are added to, in front of each softmax; `masks` grows by all that is made of them."""
    hidden: dict[tuple[Var, int], Var] = {}
    for op in list(block.operations):
        if op.op_type == "scaled_dot_product_attention" and op.attn_mask in masks:
            if not _leaves_something(op.attn_mask, -1):
                _average_hidden_rows(mb, block, op)
            continue
        if op.op_type not in _MAKES_MASKS | _MOVES or not any(var in masks for var in _inputs(op)):
            continue
        if op.op_type not in ("add", "sub") or not _is_attended(op.outputs[0], set()):
            masks.update(op.outputs)
            continue
        signs = {"x": -1, "y": -1 if op.op_type == "add" else 1}
        conditions = []
        for name, sign in signs.items():
            var = op.inputs[name]
            if var in masks and not _leaves_something(var, sign):
                if (var, sign) not in hidden:
                    with mb.set_before_op(op):
                        limit = sign * MASKED / 2
                        hidden[var, sign] = (mb.less if sign < 0 else mb.greater)(x=var, y=limit)
                conditions.append(hidden[var, sign])
        masks.update(op.outputs if not conditions else (_swallowed(mb, block, op, conditions),))


def _average_hidden_rows(mb: Builder, block: Block, op: Operation) -> None:
    """Give the mean of all values where the mask of fused attention hides a whole row, as swallowed scores do."""
    (result,) = op.outputs
    operations = list(block.operations)
    with mb.set_before_op(operations[operations.index(op) + 1]):
        most = mb.reduce_max(x=op.attn_mask, axes=[-1], keep_dims=True)
        mean = mb.reduce_mean(x=op.value, axes=[-2], keep_dims=True)
        new = mb.select(cond=mb.greater(x=most, y=-MASKED / 2), a=result, b=mean)
    block.replace_uses_of_var_after_op(anchor_op=new.op, old_var=result, new_var=new)


def _swallowed(mb: Builder, block: Block, op: Operation, conditions: list[Var]) -> Var:
    operations = list(block.operations)
    following = operations[operations.index(op) + 1]
    with mb.set_before_op(following):
        condition = conditions[0] if len(conditions) == 1 else mb.logical_or(x=conditions[0], y=conditions[1])
        new = mb.select(cond=condition, a=-MASKED, b=op.outputs[0])
    block.replace_uses_of_var_after_op(anchor_op=new.op, old_var=op.outputs[0], new_var=new)
    return new


def _leaves_something(mask: Var, sign: int) -> bool:
    """Whether a mask leaves an element of every row, as those of causal attention do: one that no input decides."""
    import numpy as np

    if mask.val is None:
        return not _depends_on_input(mask, set())
    value = np.atleast_1d(mask.val) * sign
    return bool((value.min(axis=-1) < MASKED / 2).all())


def _depends_on_input(var: Var, seen: set[Var]) -> bool:
    seen.add(var)
    if var.val is not None:
        return False
    return var.op is None or any(_depends_on_input(given, seen) for given in _inputs(var.op) if given not in seen)


def _inputs(op: Operation) -> Iterator[Var]:
    for value in op.inputs.values():
        yield from value if isinstance(value, list | tuple) else (value,)
