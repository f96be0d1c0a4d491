"""MIL's control flow: cond, while_loop, and the lists that loops fill."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import ListValue, Tensors, Value, exact, table

# A list grows to the index that is written; this bounds what a damaged index can ask for.
_LONGEST = 1 << 24


@exact
def cond(*, pred: bool, context: Context) -> tuple[Value, ...]:
    """The outputs of the first nested block where `pred` holds, else of the second."""
    return context.run_block(0 if pred else 1)


@exact
def while_loop(*, loop_vars: Tensors, context: Context) -> tuple[Value, ...]:
    """Run the second nested block (the body) on the loop's values while the first (the condition) says true."""
    values: tuple[Value, ...] = loop_vars  # tensors and lists
    while bool(context.run_block(0, *values)[0]):
        values = context.run_block(1, *values)
    return values


@exact
def make_list(
    *, elem_shape: Tensors, init_length: int = 1, dynamic_length: bool = True, dtype: str = "fp32", context: Context
) -> ListValue:
    """A list of `init_length` elements: zeros, where the shape of an element is known, else not yet written.

    `elem_shape` holds integers, or names where a size is known at run time only.
    """
    known = [size for entry in elem_shape if isinstance(entry, Tensor) for size in entry.flatten().tolist()]
    named = any(not isinstance(entry, Tensor) for entry in elem_shape)
    element = None if named else torch.zeros(known, dtype=context.held(dtype))
    return ListValue(items=(element,) * init_length, dynamic=dynamic_length)


@exact
def list_length(*, ls: ListValue) -> Tensor:
    """The number of elements, int32."""
    return torch.tensor(len(ls.items), dtype=torch.int32)


@exact
def list_write(*, ls: ListValue, index: int, value: Tensor) -> ListValue:
    """The list with `value` at `index`; an index beyond the end makes it longer."""
    return _written(ls, ((index, value),))


@exact
def list_scatter(*, ls: ListValue, indices: Tensor, value: Tensor) -> ListValue:
    """The list with value[i] at indices[i]; an index beyond the end makes it longer."""
    return _written(ls, zip(indices.tolist(), value.unbind(0), strict=True))


@exact
def list_read(*, ls: ListValue, index: int) -> Tensor:
    """The element at `index`; zeros where it was never written."""
    return _elements(ls, [index])[0]


@exact
def list_gather(*, ls: ListValue, indices: Tensor) -> Tensor:
    """The elements at `indices` (K), stacked: (K, *element)."""
    return torch.stack(_elements(ls, indices.tolist()))


def _written(ls: ListValue, updates: Any) -> ListValue:
    items = list(ls.items)
    for index, value in updates:
        if not 0 <= index < len(items) and not ls.dynamic:
            raise IndexError(f"list index {index} is out of range [0, {len(items)})")
        if not 0 <= index < _LONGEST:
            raise IndexError(f"list index {index} is out of range [0, {_LONGEST})")
        items.extend([None] * (index + 1 - len(items)))
        items[index] = value
    return ListValue(items=tuple(items), dynamic=ls.dynamic)


def _elements(ls: ListValue, indices: list[int]) -> list[Tensor]:
    found = []
    for index in indices:
        if not 0 <= index < len(ls.items):
            raise IndexError(f"list index {index} is out of range [0, {len(ls.items)})")
        item = ls.items[index]
        if item is None:
            pattern = next((each for each in ls.items if each is not None), None)
            if pattern is None:
                raise IndexError(f"list element {index} was never written and its shape is not known")
            item = torch.zeros_like(pattern)
        found.append(item)
    return found


OPS = table(cond, while_loop, make_list, list_length, list_write, list_read, list_gather, list_scatter)
