"""Torch's own definitions of operators by others: which there are, and which of them a program needs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from builder.backends.coreml.lowerings.binding import READ
from builder.backends.coreml.lowerings.casts import NO_COMPLEX_HALF
from builder.backends.coreml.lowerings.operator_calls import CAPITALS
from builder.model.capture.composites import core_decompositions

if TYPE_CHECKING:
    from torch._ops import OpOverload
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

_UNFIT = ("corrcoef.default", "cov.default", "gru.input", "lstm.input", "rnn_relu.input", "rnn_tanh.input")
"""Operators whose definition asks for values, which nothing has while a program is written, or has a copy of a cell
for each step: traces keep recurrent layers whole."""

_BETTER_DEFINED = tuple(f"fft_{way}fft{many}" for way in ("", "i", "r", "ir") for many in ("", "n"))
"""Operators whose definition converts in every case, and coremltools' own lowering in some."""


def kind_of_node(node: Node) -> str:
    """The name by which coremltools looks up a node of an exported program."""
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    target = node.target
    name = (
        target.name() if hasattr(target, "name") and callable(target.name) else getattr(target, "__name__", str(target))
    )
    return str(sanitize_op_kind(name))


def has_definition(kind: str) -> bool:
    """Whether torch may define an operator by others: surely not where there is no overload that is so defined."""
    import torch
    from torch._decomp import decomposition_table

    name = kind.split(".")[0]
    packet = getattr(torch.ops.aten, CAPITALS.get(name, name), None)
    if packet is None:
        return False
    overloads = [getattr(packet, name) for name in packet.overloads()]
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return any(each in decomposition_table or each.has_kernel_for_dispatch_key(composite) for each in overloads)


def unknown_definitions(
    program: ExportedProgram | GraphModule, *, inner: OpOverload | None = None
) -> Mapping[OpOverload, Callable[..., object]]:
    """Torch's definitions of the operators of a program that have no lowering, or are `inner`."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    known = _TORCH_OPS_REGISTRY.get_func
    kinds = [(node.target, kind_of_node(node)) for node in calls]
    unknown = {target for target, kind in kinds if kind in _BETTER_DEFINED or known(kind) is None or target is inner}
    if not unknown:
        return {}
    from torch._decomp import decomposition_table

    core = core_decompositions()
    found = {}
    for target in unknown:
        name = str(target).removeprefix("aten.")
        table = core if target in core else decomposition_table
        if target in table and name not in _UNFIT:
            found[target] = table[target]
    return found


def completed(module: GraphModule) -> None:
    """Write a graph module as coremltools and our lowerings need it; it is changed in place."""
    without_complex_casts(module)
    _without_prims(module)
    for node in module.graph.nodes:
        if len(read := {user.args[1] for user in node.users if user.target is operator.getitem}):
            node.meta[READ] = tuple(read)
    module.recompile()


def _without_prims(module: GraphModule) -> None:
    """Let operators of torch's references be those of the same name that everybody calls, on numbers of one dtype."""
    import torch

    for node in module.graph.nodes:
        name = str(node.target).removeprefix("prims.").removesuffix(".default")
        if node.op != "call_function" or getattr(node.target, "namespace", "") != "prims":
            continue
        if name == "convert_element_type":
            node.target, node.kwargs = torch.ops.aten._to_copy.default, {"dtype": node.args[1]}
            node.args = node.args[:1]
        elif packet := getattr(torch.ops.aten, {"erf_inv": "erfinv"}.get(name, name), None):
            overloads = packet.overloads()
            if overload := next((each for each in ("Tensor", "default", "self") if each in overloads), None):
                node.target = getattr(packet, overload)


def without_complex_casts(module: GraphModule) -> None:
    """Write casts to complex numbers in a graph module in another way: coremltools has none.

    Given:   %c = aten._to_copy(%x, dtype=complex64)
    Result:  %c = aten.complex(%x, aten.mul(%x, 0)); %x itself where it is complex, or only goes to Fourier transforms
    """
    import torch

    aten: Any = torch.ops.aten
    for node in list(module.graph.nodes):
        if node.target is not aten._to_copy.default or not node.meta["val"].is_complex():
            continue
        if node.meta["val"].dtype == torch.complex32:
            raise NotImplementedError(NO_COMPLEX_HALF)
        given = node.args[0]
        replaced = given
        if not given.meta["val"].is_complex() and not _is_transformed(node):
            with module.graph.inserting_before(node):
                real = module.graph.call_function(aten._to_copy.default, (given,), {"dtype": torch.float32})
                zero = module.graph.call_function(aten.mul.Tensor, (real, 0.0))
                replaced = module.graph.call_function(aten.complex.default, (real, zero))
                for new in (real, zero, replaced):
                    new.meta = dict(node.meta)
                real.meta["val"] = zero.meta["val"] = node.meta["val"].real
        node.replace_all_uses_with(replaced)
        module.graph.erase_node(node)


_KEEPING = ("constant_pad_nd", "slice", "_conj", "conj", "_conj_physical", "conj_physical")


def _is_transformed(node: Node) -> bool:
    """Whether complex numbers go to Fourier transforms alone, filled up, cut or conjugated on the way."""
    names = [(user, str(user.target).removeprefix("aten.").partition(".")[0]) for user in node.users]
    return bool(names) and all(
        name.startswith("_fft_c2") or (name in _KEEPING and _is_transformed(user)) for user, name in names
    )
