"""Compressed weights in an exported program: small buffers, and ATen operators that make the dense tensor of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node

from coreml_runtime.export.module import identifier
from coreml_runtime.forms import Form, Palette, Scaled

if TYPE_CHECKING:
    from torch._ops import OpOverload
    from torch.export import ExportedProgram

Array = np.ndarray
_ATEN = torch.ops.aten


def store(program: Any, forms: Mapping[str, Form]) -> None:
    """Change the program in place: each parameter in `forms` becomes buffers and what computes it.

    Given   p_kernel, conv2d(x, p_kernel)
    Result  b_kernel_data, b_kernel_scale, mul = mul(to(b_kernel_data), b_kernel_scale), conv2d(x, mul)
    """
    graph = program.graph_module.graph
    first = next(node for node in graph.nodes if node.op not in ("placeholder", "get_attr"))
    for path, form in forms.items():
        spec = next(each for each in program.graph_signature.input_specs if each.target == path)
        parameter = next(node for node in graph.nodes if node.op == "placeholder" and node.name == spec.arg.name)
        writer = _Writer(program, path, parameter, first)
        dense = writer.dense(form)
        parameter.replace_all_uses_with(dense)
        graph.erase_node(parameter)
        specs = program.graph_signature.input_specs
        place = specs.index(spec)
        specs[place : place + 1] = writer.specs
        del program.state_dict[path]
        program.state_dict.update(writer.buffers)
    graph.lint()
    program.graph_module.recompile()
    program.validate()


class _Writer:
    """Adds the buffers and nodes of one weight."""

    def __init__(self, program: ExportedProgram, path: str, parameter: Node, before: Node) -> None:
        self._program, self._path, self._parameter, self._before = program, path, parameter, before
        self._graph = program.graph_module.graph
        self._stack = dict(next(iter(parameter.users)).meta.get("nn_module_stack") or {})
        self._mode = parameter.meta["val"].fake_mode
        self.specs: list[InputSpec] = []
        self.buffers: dict[str, torch.Tensor] = {}

    def dense(self, form: Form) -> Node:
        """The node of the dense tensor."""
        if form.palette is not None:
            return self._palette(form.palette, form.mask, form.dense.shape)
        if form.scaled is not None:
            data = form.scaled.data
            if form.mask is None:
                return self._scale(self._integers("data", data, form.scaled.bits), form.scaled)
            stored = self._integers("data", np.concatenate([[data.dtype.type(0)], data[form.mask]]), form.scaled.bits)
            return self._scale(self._spread(stored, form.mask), form.scaled)
        assert form.mask is not None, "what is stored is compressed"
        values = np.concatenate([[form.dense.dtype.type(0)], form.dense[form.mask]])
        return self._spread(self._hold("values", values), form.mask)

    def _palette(self, palette: Palette, mask: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> Node:
        groups = palette.table.shape[:-2]
        entries, vector = palette.table.shape[-2:]
        table = self._hold("table", palette.table.reshape(-1, vector) if vector > 1 else palette.table.reshape(-1))
        if mask is not None:
            chosen = self._call(_ATEN.index.Tensor, table, [self._indices(palette.indices[mask], palette.bits)])
            dense = self._spread(self._call(_ATEN.constant_pad_nd.default, chosen, [1, 0]), mask)
        else:
            indices = self._indices(palette.indices, palette.bits)
            for axis, count in enumerate(groups):
                if count > 1:
                    step = entries * math.prod(groups[axis + 1 :])
                    size = palette.indices.shape[axis]
                    ends = [-1 if at == axis else 1 for at in range(palette.indices.ndim)]
                    first = (np.arange(size) * count // size * step).reshape(ends)
                    indices = self._call(_ATEN.add.Tensor, indices, self._hold(f"first_{axis}", first.astype(np.int32)))
            dense = self._call(_ATEN.index.Tensor, table, [indices])
            if vector > 1:
                rank, at = palette.indices.ndim, palette.axis + 1
                dense = self._call(_ATEN.permute.default, dense, [*range(at), rank, *range(at, rank)])
                dense = self._call(_ATEN.reshape.default, dense, list(shape))
        if palette.scale is None:
            return dense
        return self._call(_ATEN.mul.Tensor, dense, self._hold("scale", palette.scale))

    def _indices(self, indices: NDArray[np.uint8], bits: int) -> Node:
        return self._call(_ATEN.reshape.default, self._unpacked("indices", indices.reshape(-1), bits), [*indices.shape])

    def _integers(self, what: str, data: Array, bits: int) -> Node:
        """Integers in as few bytes as hold them."""
        if bits == 8:
            return self._hold(what, data)
        low = -(1 << (bits - 1)) if data.dtype.kind == "i" else 0
        flat = self._unpacked(what, (data.astype(np.int16) - low).astype(np.uint8).reshape(-1), bits)
        shaped = self._call(_ATEN.reshape.default, flat, list(data.shape))
        return self._call(_ATEN.add.Scalar, shaped, low) if low else shaped

    def _unpacked(self, what: str, values: NDArray[np.uint8], bits: int) -> Node:
        """int32 (N), the first value in the lowest bits of the first byte."""
        if bits == 8:
            return self._call(_ATEN.to.dtype, self._hold(what, values), torch.int32)
        group = math.lcm(bits, 8) // 8
        each = group * 8 // bits
        padded = np.zeros(-(-values.size // each) * each, np.uint32)
        padded[: values.size] = values
        words = (padded.reshape(-1, each) << (np.arange(each, dtype=np.uint32) * bits)).sum(1, dtype=np.uint32)
        columns = np.stack([(words >> np.uint32(8 * place)) & 0xFF for place in range(group)], 1).astype(np.uint8)
        word = self._call(_ATEN.to.dtype, self._hold(what, columns), torch.int32)
        if group > 1:
            factors = self._hold(f"{what}_places", (256 ** np.arange(group)).astype(np.int32))
            product = self._call(_ATEN.mul.Tensor, word, factors)
            word = self._call(_ATEN.sum.dim_IntList, product, [1], True, dtype=torch.int32)
        shifts = self._hold(f"{what}_shifts", (np.arange(each) * bits).astype(np.int32))
        shifted = self._call(_ATEN.bitwise_right_shift.Tensor, word, shifts)
        flat = self._call(_ATEN.reshape.default, self._call(_ATEN.bitwise_and.Scalar, shifted, (1 << bits) - 1), [-1])
        return flat if padded.size == values.size else self._call(_ATEN.slice.Tensor, flat, 0, 0, values.size)

    def _spread(self, values: Node, mask: NDArray[np.bool_]) -> Node:
        """`values`, of which the first is zero, where the mask is set: its running count says which."""
        flags = self._unpacked("mask", mask.reshape(-1).astype(np.uint8), 1)
        places = self._call(_ATEN.mul.Tensor, self._call(_ATEN.cumsum.default, flags, 0), flags)
        return self._call(_ATEN.index.Tensor, values, [self._call(_ATEN.reshape.default, places, list(mask.shape))])

    def _scale(self, data: Node, scaled: Scaled) -> Node:
        shape, counts = scaled.data.shape, scaled.scale.shape
        kind = torch.from_numpy(np.zeros(1, scaled.scale.dtype)).dtype
        blocks = [part for size, count in zip(shape, counts, strict=True) for part in (count, size // count)]
        apart = [part for count in counts for part in (count, 1)]
        is_whole = all(count in (1, size) for size, count in zip(shape, counts, strict=True))
        value = self._call(_ATEN.to.dtype, data, kind)
        value = value if is_whole else self._call(_ATEN.reshape.default, value, blocks)

        def laid(what: str, values: Array) -> Node:
            return self._hold(what, values if is_whole else values.reshape(apart))

        if scaled.zero.any():
            value = self._call(_ATEN.sub.Tensor, value, laid("zero", scaled.zero.astype(scaled.scale.dtype)))
        value = self._call(_ATEN.mul.Tensor, value, laid("scale", scaled.scale))
        if scaled.shift is not None:
            value = self._call(_ATEN.add.Tensor, value, laid("shift", scaled.shift))
        return value if is_whole else self._call(_ATEN.reshape.default, value, list(shape))

    def _hold(self, what: str, values: Array) -> Node:
        """A new buffer `<weight>.<what>`."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        path = f"{self._path}_{what}"
        while path in self.buffers or path in self._program.state_dict:
            path += "_"
        self.buffers[path] = tensor
        with self._graph.inserting_before(self._parameter):
            node: Node = self._graph.placeholder(f"b_{identifier(path)}")
        node.meta["val"] = self._mode.from_tensor(tensor, static_shapes=True)
        argument = TensorArgument(name=node.name)
        self.specs.append(InputSpec(kind=InputKind.BUFFER, arg=argument, target=path, persistent=True))
        return node

    def _call(self, target: OpOverload, *given: object, **named: object) -> Node:
        def value(each: Any) -> Any:
            if isinstance(each, Sequence) and not isinstance(each, str):
                return [value(one) for one in each]
            return each.meta["val"] if isinstance(each, Node) else each

        with self._graph.inserting_before(self._before):
            node: Node = self._graph.call_function(target, given, named)
        with self._mode:
            node.meta["val"] = target(*value(given), **named)
        node.meta["nn_module_stack"] = dict(self._stack)
        return node
