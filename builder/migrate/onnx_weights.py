"""Compressed weights in an ONNX graph: small initializers, and standard operators that make the dense tensor of them.

onnxruntime computes all but `DequantizeLinear` once, when a session begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coreml_runtime.forms import Form, Palette, Scaled

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Array = np.ndarray

LEAST_OPSET = 21
"""The first one whose `DequantizeLinear` takes four bits and blocks."""


def store(model: ModelProto, forms: Mapping[str, Form]) -> list[str]:
    """Replace dense initializers by their forms; the names of those that the graph no longer has as such.

    Given   %w = initializer (8, 3) float
    Result  %w.data = initializer (8, 3) int8; %w.scale = initializer (8) float; %w = DequantizeLinear(…)
    """
    initializers = {each.name: each for each in model.graph.initializer}
    missing, nodes = [], []
    for name, form in forms.items():
        if name not in initializers:
            missing.append(name)
            continue
        writer = _Writer(name=name)
        writer.write(form)
        model.graph.initializer.remove(initializers[name])
        model.graph.initializer.extend(writer.initializers)
        nodes += writer.nodes
    before = [type(node).FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *before])
    return missing


@dataclass(kw_only=True)
class _Writer:
    """The nodes and initializers of one weight; all names begin with the weight's."""

    name: str
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def write(self, form: Form) -> None:
        """Let the value under the weight's name be the dense tensor."""
        if form.palette is not None:
            self._palette(form.palette, form.mask, form.dense.shape)
        elif form.scaled is not None:
            data = form.scaled.data
            if form.mask is None:
                held = self._hold("data", data, form.scaled.bits)
            else:
                held = self._spread(self._hold("data", np.concatenate([[data.dtype.type(0)], data[form.mask]])), form)
            self._scale(held, form.scaled)
        else:
            assert form.mask is not None, "what is stored is compressed"
            values = np.concatenate([[form.dense.dtype.type(0)], form.dense[form.mask]])
            self._spread(self._hold("values", values), form, self.name)

    def _palette(self, palette: Palette, mask: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> None:
        groups = palette.table.shape[:-2]
        entries, vector = palette.table.shape[-2:]
        table = palette.table.reshape(-1, vector) if vector > 1 else palette.table.reshape(-1)
        held = self._hold("table", table)
        last = None if palette.scale is not None else self.name
        if mask is not None:
            chosen = self._node("Gather", [held, self._indices(palette.indices[mask], palette.bits)], axis=0)
            zero = self._hold("zero", np.zeros(1, table.dtype))
            values = self._node("Concat", [zero, chosen], axis=0)
            dense = self._spread_values(values, mask, last)
        else:
            indices = self._indices(palette.indices, palette.bits)
            if math.prod(groups) > 1:
                offsets = _offsets(palette.indices.shape, groups) * entries
                indices = self._node("Add", [indices, self._hold("first", offsets.astype(np.int32))])
            dense = self._node("Gather", [held, indices], last if vector == 1 else None, axis=0)
            if vector > 1:
                order = [*range(palette.axis + 1), palette.indices.ndim, *range(palette.axis + 1, palette.indices.ndim)]
                dense = self._node("Transpose", [dense], perm=order)
                dense = self._reshape(dense, shape, last)
        if palette.scale is not None:
            self._node("Mul", [dense, self._hold("scale", palette.scale)], self.name)

    def _indices(self, indices: NDArray[np.uint8], bits: int) -> str:
        """int32 of the shape of `indices`, from `bits` bits each."""
        if bits == 8:
            return self._cast(self._hold("indices", indices), np.int32)
        return self._reshape(self._unpacked("indices", indices.reshape(-1), bits), indices.shape)

    def _unpacked(self, what: str, values: NDArray[np.uint8], bits: int) -> str:
        """int32 (N), stored in as few bytes as hold them, the first value in the lowest bits."""
        group = math.lcm(bits, 8) // 8
        each = group * 8 // bits
        padded = np.zeros(-(-values.size // each) * each, np.uint32)
        padded[: values.size] = values
        words = (padded.reshape(-1, each) << (np.arange(each, dtype=np.uint32) * bits)).sum(1, dtype=np.uint32)
        columns = np.stack([(words >> np.uint32(8 * place)) & 0xFF for place in range(group)], 1).astype(np.uint8)
        word = self._cast(self._hold(what, columns), np.int32)
        if group > 1:
            factors = self._hold("places", (256 ** np.arange(group)).astype(np.int32))
            axes = self._hold("axes", np.array([1], np.int64))
            word = self._node("ReduceSum", [self._node("Mul", [word, factors]), axes], keepdims=1)
        shifts = self._hold("shifts", (np.arange(each) * bits).astype(np.uint32))
        shifted = self._node("BitShift", [self._cast(word, np.uint32), shifts], direction="RIGHT")
        masked = self._node("BitwiseAnd", [shifted, self._hold("bits", np.array((1 << bits) - 1, np.uint32))])
        flat = self._reshape(self._cast(masked, np.int32), (-1,))
        if padded.size == values.size:
            return flat
        ends = [self._hold(end, np.array([at], np.int64)) for end, at in (("begin", 0), ("end", values.size))]
        return self._node("Slice", [flat, *ends])

    def _spread(self, values: str, form: Form, name: str | None = None) -> str:
        assert form.mask is not None, "it is sparse"
        return self._spread_values(values, form.mask, name)

    def _spread_values(self, values: str, mask: NDArray[np.bool_], name: str | None) -> str:
        """`values`, of which the first is zero, where the mask is set: its running count says which."""
        flags = self._unpacked("mask", mask.reshape(-1).astype(np.uint8), 1)
        axis = self._hold("axis", np.array(0, np.int64))
        places = self._node("Mul", [self._node("CumSum", [flags, axis]), flags])
        return self._node("Gather", [values, self._reshape(places, mask.shape)], name, axis=0)

    def _scale(self, data: str, scaled: Scaled) -> None:
        """`DequantizeLinear` along one axis, in blocks there where it has them."""
        axis, block = _along(scaled)
        shape = tuple(size if at != axis else size // block for at, size in enumerate(scaled.data.shape))
        plain = block == 1 and all(size == 1 for at, size in enumerate(scaled.scale.shape) if at != axis)
        scale, zero = scaled.scale, scaled.zero
        if scale.size == 1:
            scale, zero = scale.reshape(()), zero.reshape(())
        elif plain:
            scale, zero = scale.reshape(-1), zero.reshape(-1)
        else:
            scale, zero = _repeated(scale, shape), _repeated(zero, shape)
        inputs = [data, self._hold("scale", scale)]
        if zero.any():
            inputs.append(self._hold("zero_point", zero, scaled.bits))
        last = self.name if scaled.shift is None else None
        blocks = {} if scale.ndim < 2 else {"block_size": block}
        dense = self._node("DequantizeLinear", inputs, last, axis=axis, **blocks)
        if scaled.shift is not None:
            self._node("Add", [dense, self._hold("shift", scaled.shift)], self.name)

    def _hold(self, what: str, values: Array, bits: int = 8) -> str:
        """A new initializer `<weight>.<what>`."""
        import onnx

        name = self._free(f"{self.name}.{what}")
        if bits == 4:
            kind = onnx.TensorProto.INT4 if values.dtype.kind == "i" else onnx.TensorProto.UINT4
            packed = onnx.helper.make_tensor(name, kind, values.shape, values.reshape(-1))
            self.initializers.append(packed)
        else:
            self.initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _free(self, name: str) -> str:
        taken = {each.name for each in self.initializers} | {each.output[0] for each in self.nodes}
        number, chosen = 1, name
        while chosen in taken:
            number, chosen = number + 1, f"{name}_{number}"
        return chosen

    def _node(self, kind: str, inputs: Sequence[str], name: str | None = None, **attributes: object) -> str:
        import onnx

        output = name or self._free(f"{self.name}.{kind}")
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def _cast(self, value: str, dtype: np.dtype | type[np.generic]) -> str:
        import onnx

        return self._node("Cast", [value], to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _reshape(self, value: str, shape: Sequence[int], name: str | None = None) -> str:
        return self._node("Reshape", [value, self._hold("shape", np.array(shape, np.int64))], name)


def _offsets(shape: Sequence[int], groups: Sequence[int]) -> Array:
    """Which table each index is for, with sizes of 1 where that is all the same."""
    total: Array = np.zeros([1] * len(shape), np.int64)
    for axis, (size, count) in enumerate(zip(shape, groups, strict=True)):
        if count > 1:
            behind = math.prod(groups[axis + 1 :])
            numbers = np.arange(size) * count // size * behind
            total = total + numbers.reshape([-1 if at == axis else 1 for at in range(len(shape))])
    return total


def _along(scaled: Scaled) -> tuple[int, int]:
    """The axis that is cut into the largest blocks which are not the whole, and their size; else that of the channels.

    ONNX has blocks along one axis; along others each element then has a scale of its own.
    """
    found = (0, 1)
    for axis, (size, count) in enumerate(zip(scaled.data.shape, scaled.scale.shape, strict=True)):
        if count > 1:
            found = max(found, (axis, size // count), key=lambda each: each[1]) if found[1] > 1 or size > count else (
                axis, 1
            )  # fmt: skip
    return found


def _repeated(blocks: Array, shape: Sequence[int]) -> Array:
    for axis, size in enumerate(shape):
        if blocks.shape[axis] != size:
            blocks = np.repeat(blocks, size // blocks.shape[axis], axis)
    return blocks
