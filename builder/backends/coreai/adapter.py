"""Every private name of coreai-core and coreai-torch that we need: programs, their constants, and new operators.

Apple gives its Python bindings no stability; the extra `coreai` pins them, and this file is what an upgrade can break.
Import it in the child process only (`child.py`).
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# authoring comes before anything of coreai._compiler, which imports it in a circle
# isort: off
from coreai.authoring import AIModelAsset, AIProgram
from coreai._compiler import ir
from coreai._compiler._mlir_libs._coreaiIR import _bindings
from coreai._compiler.dialects import coreai
from coreai._compiler.ir import (
    Attribute,
    Context,
    DenseElementsAttr,
    DenseResourceElementsAttr,
    FloatAttr,
    InsertionPoint,
    IntegerAttr,
    IntegerType,
    RankedTensorType,
    ShapedType,
    StringAttr,
)
from coreai_torch import TorchConverter
from coreai_torch._aten_to_core import _aten_to_core_resolver

# isort: on

from torch.fx import Node

from builder.backends.coreai.refusals import named_operator

Program: TypeAlias = AIProgram
"""What an asset holds: functions in a module of MLIR."""
Operation: TypeAlias = ir.Operation
"""An operator, with its operands, results and attributes."""
Graph: TypeAlias = ir.Operation
"""A function, which is an operator with a region."""
Value: TypeAlias = ir.Value
"""What an operator makes, or a function takes."""
Type: TypeAlias = ir.Type
"""Of a value: a tensor's shape and element type, or a state's handle."""
ALIGNMENT = 16
"""Bytes of a resource's alignment: with 64 a file runs, but `summary()` cannot read it."""
_RESOURCE = re.compile(r"dense_resource<([^>]*)>")
_APART = "|"
"""Between a number and a resource's name, while programs are joined."""
_NODE = re.compile(r'identifiers = \["([^"]*)"\], name = "torch"')
_CALLEE = re.compile(r"@([\w.$]+)")
_TYPES = {"f32": np.float32, "f16": np.float16, "i1": np.bool_, "si8": np.int8, "ui8": np.uint8, "si16": np.int16}
_TYPES |= {"ui16": np.uint16, "si32": np.int32, "ui32": np.uint32}


def load_program(asset: Path) -> Program:
    """The program of an `.aimodel` in a context of its own."""
    return AIModelAsset.load(asset).program


def module_of(program: Program) -> ir.Module:
    """The module in MLIR of an AIProgram, to be changed inside its `context`."""
    return program._module._mlir_module


def graphs(program: Program) -> list[Graph]:
    """The functions of a program, those that others call included."""
    return [each.operation for each in module_of(program).body.operations]


def is_private(graph: Graph) -> bool:
    """Whether only other functions call it."""
    return "priv" in graph.attributes


def name_of(graph: Graph) -> str:
    """A function's name."""
    return str(graph.attributes["sym_name"].value)


def walk(operation: Operation) -> Iterator[Operation]:
    """Every operator inside, in order; safe against changes of those already passed."""
    for region in operation.regions:
        for block in region.blocks:
            for inner in list(block.operations):
                yield inner.operation
                yield from walk(inner.operation)


def lowered_operators() -> frozenset[str]:
    """The ATen operators that coreai-torch converts, as `add.Tensor`."""
    return frozenset(_aten_to_core_resolver)


def written_for(graph: Graph) -> list[str]:
    """For each operator that stands in a function itself, the node of torch that it was written for; empty: unknown.

    A conversion in debug mode says that in the operators' locations; of what was put together, its own comes first.
    """
    found = (_NODE.search(str(operation.location)) for operation in operations_of(graph))
    return ["" if match is None else match[1] for match in found]


class _Naming(TorchConverter):  # type: ignore[misc] # it has no types
    """Apple's converter, which says by which operator it was refused."""

    def _handle_call_function_op(self, node: Node) -> None:
        with named_operator(node):
            super()._handle_call_function_op(node)


def converter(*, says_origins: bool = False) -> TorchConverter:
    """Apple's converter of exported programs; `says_origins` in its mode whose assets name files of here."""
    return _Naming(mode=TorchConverter.Mode.DEBUG if says_origins else TorchConverter.Mode.RELEASE)


def rename_functions(program: Program, names: Mapping[str, str]) -> None:
    """Give functions other names, by their names; whoever invokes them follows."""
    module = module_of(program)
    with module.context:
        for graph in graphs(program):
            if name_of(graph) in names:
                graph.attributes["sym_name"] = StringAttr.get(names[name_of(graph)])
        for op in walk(module.operation):
            if op.name == "coreai.invoke" and callee(op) in names:
                op.attributes["callee"] = Attribute.parse(f"#param.constant<@{names[callee(op)]}> : !param.symbol")


def callee(invoke: Operation) -> str:
    """The name of the function that `coreai.invoke` invokes."""
    found = _CALLEE.search(str(invoke.attributes["callee"]))
    assert found is not None, "invoke names a function"
    return found[1]


def element_type(value: Value) -> str:
    """`f32`, `si8`, `ui4` and so on, of a tensor."""
    return str(value.type.element_type)


def shape_of(value: Value) -> tuple[int, ...]:
    """The static shape of a tensor."""
    return tuple(value.type.shape)


def constant_bytes(constant: Operation) -> NDArray[np.uint8]:
    """What a `coreai.constant` holds: integers below a byte packed, the first in the lowest bits; a bool is a byte."""
    of = constant.results[0].type
    width = 8 if str(of.element_type) == "i1" else of.element_type.width
    data = np.zeros(math.ceil(math.prod(of.shape) * width / 8), np.uint8)
    compiler: Any = _bindings
    compiler.compiler.copy_constant_value_to_array(constant_op=constant, destination=data)
    return data


def constant_array(constant: Operation) -> np.ndarray:
    """A constant of whole bytes as an array."""
    result = constant.results[0]
    data = constant_bytes(constant)
    return data.view(_TYPES[element_type(result)]).reshape(shape_of(result))


def resource_name(constant: Operation) -> str | None:
    """The name under which a constant's bytes are stored; None where they are small and stand in the program."""
    value = constant.attributes["value"]
    if not DenseResourceElementsAttr.isinstance(value):
        return None
    found = _RESOURCE.match(str(value))
    assert found is not None, "a resource has a name"
    return found[1].strip('"')


def set_resource(constant: Operation, data: NDArray[np.uint8], name: str) -> None:
    """Store a constant's bytes under `name`."""
    of = constant.results[0].type
    constant.attributes["value"] = DenseResourceElementsAttr.get_from_buffer(data, name, of, ALIGNMENT)


def insert_before(operation: Operation) -> InsertionPoint:
    """A context manager: what is made inside stands in front of `operation`."""
    return InsertionPoint(operation)


def pack_bits(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Numbers below `2**bits` in as few bytes as hold them, the first in the lowest bits."""
    if bits == 8:
        return np.ascontiguousarray(values).reshape(-1)
    spread = (values.reshape(-1, 1) >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(spread.reshape(-1), bitorder="little")


def make_constant(values: np.ndarray, name: str, *, bits: int | None = None, like: Value | None = None) -> Value:
    """A new constant, stored under `name`; of the type of `like`, or integers of `bits`."""
    if bits is None:
        assert like is not None, "one of both is given"
        of = like.type.element_type
        data: np.ndarray = np.ascontiguousarray(values.astype(_TYPES[str(of)]))
    else:
        signed = np.issubdtype(values.dtype, np.signedinteger)
        of = IntegerType.get_signed(bits) if signed else IntegerType.get_unsigned(bits)
        data = pack_bits(values.astype(np.int8).view(np.uint8) & np.uint8((1 << bits) - 1), bits)
    tensor = RankedTensorType.get(list(values.shape), of)
    flat = data.reshape(-1).view(np.uint8)
    return coreai.ConstantOp(value=DenseResourceElementsAttr.get_from_buffer(flat, name, tensor, ALIGNMENT)).result


def make_zeros(
    shape: tuple[int, ...], *, bits: int | None = None, signed: bool = True, like: Value | None = None
) -> Value:
    """A constant of nothing but zeros, which takes the space of one; of the type of `like`, or integers of `bits`."""
    if bits is None:
        assert like is not None, "one of both is given"
        of, zero = like.type.element_type, FloatAttr.get(like.type.element_type, 0.0)
    else:
        of = IntegerType.get_signed(bits) if signed else IntegerType.get_unsigned(bits)
        zero = IntegerAttr.get(of, 0)
    return coreai.ConstantOp(value=DenseElementsAttr.get_splat(RankedTensorType.get(list(shape), of), zero)).result


def make_number(value: int, bits: int = 16) -> Value:
    """A signed integer without dimensions."""
    tensor = RankedTensorType.get([], IntegerType.get_signed(bits))
    data = np.array(value, dtype=f"int{bits}")
    return coreai.ConstantOp(value=DenseElementsAttr.get(data, type=tensor)).result


def shift_scale(data: Value, scale: Value, offset: Value, bias: Value, shape: tuple[int, ...]) -> Value:
    """`scale * (data - offset) + bias`, block by block, of the type of `bias`."""
    result = RankedTensorType.get(list(shape), bias.type.element_type)
    return coreai.BlockwiseShiftScaleOp(data, scale, offset, bias, results=[result]).result


def lookup(indices: Value, table: Value, axis: int, shape: tuple[int, ...]) -> Value:
    """The entries of `table` (blocks…, entries, vector) at `indices`; vectors lie along `axis`."""
    result = RankedTensorType.get(list(shape), table.type.element_type)
    return coreai.LutToDenseOp(indices, table, make_number(axis), results=[result]).result


def spread(values: Value, mask: Value) -> Value:
    """A dense tensor with `values` (N) where `mask` (1 bit an element) is one, and zeros elsewhere."""
    return coreai.sparse_with_bitmask_to_dense(coreai.build_sparse_with_bitmask(values=values, bitmask=mask))


def quantized(value: Value, scale: float, zero: int) -> Value:
    """`value` on its way through 8-bit integers, with one scale and zero point; made right behind it."""
    of, count = value.type.element_type, value.type.rank
    with _behind(value):
        step = _splat([], of, FloatAttr.get(of, _at_least(scale, str(of))))
        kind = IntegerType.get_signed(8)
        start = _splat([], kind, IntegerAttr.get(kind, zero))
        nothing = _splat([], of, FloatAttr.get(of, 0.0))
        wide = IntegerType.get_signed(32)
        axes = DenseElementsAttr.get(np.arange(count, dtype=np.int32), type=RankedTensorType.get([count], wide))
        all_axes = coreai.ConstantOp(value=axes).result
        shape = [
            ShapedType.get_dynamic_size() if value.type.is_dynamic_dim(d) else value.type.shape[d] for d in range(count)
        ]
        integers = RankedTensorType.get(shape, kind)
        small = coreai.QuantizeOp(value, step, start, nothing, all_axes, results=[integers]).result
        return coreai.DequantizeOp(small, step, start, nothing, all_axes, results=[value.type]).result


def _at_least(scale: float, of: str) -> float:
    """A scale that is not rounded to zero."""
    return max(scale, float(np.finfo(_TYPES[of]).smallest_subnormal))


def _behind(value: Value) -> AbstractContextManager[None]:
    """A context manager: what is made inside stands right behind the operator that makes `value`."""
    made = owner(value)
    block = value.owner if made is None else made.block
    operations = list(block.operations)
    if made is None:
        return _placed(operations[0])
    place = next(number for number, each in enumerate(operations) if each.operation == made)
    return _placed(operations[place + 1])


@contextmanager
def _placed(operation: Operation) -> Iterator[None]:
    with operation.operation.location, InsertionPoint(operation):
        yield


def _splat(shape: list[int], of: Type, attribute: Attribute) -> Value:
    return coreai.ConstantOp(value=DenseElementsAttr.get_splat(RankedTensorType.get(shape, of), attribute)).result


def main_graph(program: Program) -> Graph:
    """The one function that an app can call."""
    (graph,) = (graph for graph in graphs(program) if not is_private(graph))
    return graph


def operations_of(graph: Graph) -> list[Operation]:
    """The operators that stand in a function itself, its outputs the last."""
    return [each.operation for each in graph.regions[0].blocks[0].operations]


def arguments_of(graph: Graph) -> list[Value]:
    """What a function takes."""
    return list(graph.regions[0].blocks[0].arguments)


def owner(value: Value) -> Operation | None:
    """The operator that makes a value; None where a function or block takes it."""
    made = value.owner
    return made.operation if hasattr(made, "operation") else None


def uses(value: Value) -> list[tuple[Operation, int]]:
    """Who reads a value: operators and the numbers of the operands, in no order."""
    return [(use.owner.operation, use.operand_number) for use in value.uses]


def has_one_use(value: Value) -> bool:
    """Whether one operator reads a value, once."""
    return len(uses(value)) == 1


def is_read(value: Value) -> bool:
    """Whether an operator reads a value, other than the end of its function."""
    return any(plain_name(operation) not in ("output", "yield") for operation, _ in uses(value))


def replace(constant: Operation, value: Value) -> None:
    """Let everything that uses a constant use `value`, and take the constant out."""
    constant.results[0].replace_all_uses_with(value)
    constant.erase()


def is_float(value: Value) -> bool:
    """Whether a value is a tensor of float32 or float16 with a static shape."""
    return isinstance(value.type, RankedTensorType) and element_type(value) in ("f32", "f16")


def count_of(value: Value) -> int:
    """The number of a tensor's elements."""
    return math.prod(shape_of(value))


def user_name(constant: Operation) -> str:
    """What a constant can be called by the first operator that uses it, such as `conv2d.1`."""
    for use in constant.results[0].uses:
        return f"{plain_name(use.owner.operation)}.{use.operand_number}"
    return "unused"


def plain_name(operation: Operation) -> str:
    """An operator's name without its dialect: `conv2d`, `broadcasting_add`."""
    return str(operation.name).rpartition(".")[2]


def constants(program: Program) -> list[Operation]:
    """Every `coreai.constant` in order."""
    return [op for op in walk(module_of(program).operation) if op.name == "coreai.constant"]


def join_programs(assets: Mapping[str, Path]) -> Program:
    """One program with a function `main` of each asset under the name given for it; equal weights are one resource."""
    if len(assets) == 1:
        ((name, path),) = assets.items()
        program = load_program(path)
        rename_functions(program, {"main": name})
        return program
    with tempfile.TemporaryDirectory(prefix="builder-coreai-") as folder:
        for number, (name, path) in enumerate(assets.items()):
            _set_apart(load_program(path), number, name).save_asset(Path(folder) / f"{number}.aimodel")
        with Context():
            first, *others = (load_program(Path(folder) / f"{number}.aimodel") for number in range(len(assets)))
            for program in others:
                for graph in graphs(program):
                    module_of(first).body.append(graph.clone())
            _share_resources(first)
    return first


def _set_apart(program: Program, number: int, name: str) -> Program:
    """Give functions and resources names that no other program has: in one context those of files would mix."""
    parts = {name_of(graph): name_of(graph).rpartition("_") for graph in graphs(program) if is_private(graph)}
    # in front of the random letters behind the last `_`, which sealing cuts off
    private = {name: f"{stem}_f{number}{letters}" for name, (stem, _, letters) in parts.items()}
    rename_functions(program, {**private, "main": name})
    with module_of(program).context:
        for op in constants(program):
            if (resource := resource_name(op)) is not None:
                set_resource(op, constant_bytes(op), f"{number}{_APART}{resource}")
    return program


def _share_resources(program: Program) -> None:
    """Let constants with the same bytes, type and shape have one resource, under its own name."""
    known: dict[tuple[bytes, str], Attribute] = {}
    taken: set[str] = set()
    for op in constants(program):
        if (resource := resource_name(op)) is None:
            continue
        data = constant_bytes(op)
        key = hashlib.sha256(data.tobytes()).digest(), str(op.results[0].type)
        if key not in known:
            set_resource(op, data, unique(resource.partition(_APART)[2], taken))
            known[key] = op.attributes["value"]
        op.attributes["value"] = known[key]


def unique(name: str, taken: set[str]) -> str:
    """`name`, or with a number behind it where that is taken; then it is."""
    result, number = name, 1
    while result in taken:
        result, number = f"{name}_{number}", number + 1
    taken.add(result)
    return result


@dataclass(frozen=True, kw_only=True)
class User:
    """An operator that computes with a constant, maybe through others that only re-lay it."""

    name: str
    operand: int
    order: tuple[int, ...]
    """For each axis that it sees, which one of the constant that is."""


def final_users(constant: Operation, passing: tuple[str, ...]) -> Iterator[User]:
    """The operators that compute with a constant, past those named `passing` that only re-lay it."""
    result = constant.results[0]
    yield from _users(result, tuple(range(len(shape_of(result)))), passing)


def _users(value: Value, order: tuple[int, ...], passing: tuple[str, ...]) -> Iterator[User]:
    for use in value.uses:
        op = use.owner.operation
        name = plain_name(op)
        if name == "transpose" and "transpose" in passing:
            axes = [int(axis) for axis in constant_array(op.operands[1].owner.operation)]
            yield from _users(op.results[0], tuple(order[axis] for axis in axes), passing)
        elif name in passing and len(shape_of(op.results[0])) == len(order):
            yield from _users(op.results[0], order, passing)
        else:
            yield User(name=name, operand=use.operand_number, order=order)


def interface(graph: Graph) -> tuple[list[tuple[str, Type]], list[tuple[str, Type]]]:
    """What a function takes and gives: names and types in order, states and their tokens among them."""
    of = graph.attributes["function_type"].value
    takes = [str(each["coreai.name"].value) for each in graph.attributes["arg_attrs"]]
    gives = [str(each["coreai.name"].value) for each in graph.attributes["res_attrs"]]
    return list(zip(takes, of.inputs, strict=True)), list(zip(gives, of.results, strict=True))


def is_handle(kind: Type) -> bool:
    """Whether a type is that of a state."""
    return isinstance(kind, coreai.HandleType)


def is_tensor(kind: Type) -> bool:
    """Whether a type is that of a tensor."""
    return isinstance(kind, RankedTensorType)


def inner_type(handle: Type) -> Type:
    """The type of the tensor that a state holds."""
    return handle.inner_type


def tensor_type(kind: Type) -> tuple[tuple[int, ...], str]:
    """Shape and element type of a tensor's type; a dimension that the app chooses is -1."""
    shape = tuple(-1 if kind.is_dynamic_dim(d) else int(kind.shape[d]) for d in range(kind.rank))
    return shape, str(kind.element_type)
