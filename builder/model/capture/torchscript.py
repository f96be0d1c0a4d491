"""Modules that TorchScript compiled: their branches and loops decided, but for those that the app's values decide.

A compiled module asks in every forward what a Python module decides while it is traced: whether it trains, how it pads,
how many dimensions its input has. coremltools cannot convert such questions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.jit._script import RecursiveScriptModule

if TYPE_CHECKING:
    from torch.jit import ScriptModule

_CONTROL = ("prim::If", "prim::Loop")


def is_decided(traced: ScriptModule, module: torch.nn.Module, *, keeps_state: bool) -> bool:
    """Whether a trace of `module` holds no branches or loops, nor states that a compiled module reads twice."""
    is_compiled = any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
    return not has_control_flow(traced) and not (is_compiled and keeps_state)


def has_control_flow(traced: ScriptModule) -> bool:
    """Whether a trace holds branches or loops, which only compiled modules leave in it."""
    return any(kind in str(traced.inlined_graph) for kind in _CONTROL)


def read_by_name(traced: ScriptModule) -> None:
    """Let what a model calls `code` or `graph` be read as such: a compiled module has properties of these names.

    coremltools reads parameters, buffers and modules by `getattr`, and gets the text of the module for a codebook.
    """
    for module in traced.modules():
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        owned = {*module._modules.keys(), *dict(tensors)}
        names = [name for name in owned if hasattr(RecursiveScriptModule, name)]
        if names:
            reads = {name: property(partial(_read, name)) for name in names}
            for each in {module, _compiled(module)}:
                object.__setattr__(each, "__class__", type(type(each).__name__, (type(each),), reads))


def _compiled(module: Any) -> Any:
    """What torch compiled of it, which a trace holds and a file that was read is."""
    return vars(module).get("_actual_script_module", module)


def _read(name: str, module: Any) -> Any:
    return RecursiveScriptModule.__getattr__(_compiled(module), name)


def unrolled(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.nn.Module:
    """Return a module of the operators that `module` runs on `inputs`, with its parameters under their own names.

    Raises RuntimeError where a value of a tensor decides what is run: that cannot be unrolled.
    """
    with _learning(module), torch.enable_grad():  # compiled attention is fused, unless it could be asked for gradients
        graph = make_fx(lambda *tensors: module(*tensors), pre_dispatch=True)(*inputs)
    owned: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        owned.setdefault(tensor.data_ptr(), (name, tensor))
    renamed = set()
    for node in [node for node in graph.graph.nodes if node.op == "get_attr"]:
        held = getattr(graph, node.target)
        name, tensor = owned.get(held.data_ptr(), ("", held))
        if name and (tensor.shape, tensor.stride(), tensor.dtype) == (held.shape, held.stride(), held.dtype):
            _hold(graph, name, tensor)
            renamed.add(node.target)
            node.target = name
    for target in renamed:
        delattr(graph, target)
    graph.recompile()
    return graph.eval()


def folded(traced: ScriptModule, inputs: tuple[torch.Tensor, ...], *, fixed: bool) -> Any:
    """Return `traced` without the branches that its settings decide, or with `fixed` the shapes of its inputs.

    Branches and loops on values stay. What raises an error is left out, as Core ML cannot: it did not on the examples.

    Given:   %bias = GetAttr[name="bias"](%conv), which is None;  if %training: … else: batch_norm(…)
    Result:  %bias = None;  batch_norm(…);  parameters and buffers stay attributes, with their names
    """
    compiler: Any = torch._C  # its passes have no types
    frozen = compiler._freeze_module(traced._c, [], True, True)
    module = torch.jit._recursive.wrap_cpp_module(frozen)  # type: ignore[no-untyped-call]  # torch
    graph = module.graph
    _write_none(graph, graph, {next(graph.inputs()).unique(): module})
    _read_once(graph)
    _leave_out_errors(graph)
    for _ in range(3):  # what one round decides shows the shapes that decide the next
        if not any(kind in str(graph) for kind in _CONTROL):
            break
        compiler._jit_pass_complete_shape_analysis(graph, (module._c, *inputs), False)
        if not fixed:
            _write_ranks(graph, graph)
            compiler._jit_erase_non_input_shape_information(graph)
        compiler._jit_pass_peephole(graph, not fixed)
        compiler._jit_pass_constant_propagation(graph)
        _leave_out_errors(graph)
        compiler._jit_pass_dce(graph)
    compiler._jit_erase_non_input_shape_information(graph)
    return module


@contextmanager
def _learning(module: torch.nn.Module) -> Iterator[None]:
    """Let all parameters ask for gradients for a while."""
    with contextlib.ExitStack() as scoped:
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.is_leaf and not parameter.requires_grad:
                scoped.callback(parameter.requires_grad_, False)
                parameter.requires_grad_()
        yield


def _hold(module: torch.nn.Module, path: str, tensor: torch.Tensor) -> None:
    """Make `tensor` a parameter or buffer of `module` at a dotted path."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in module._modules:
            module.add_module(folder, torch.nn.Module())
        module = module.get_submodule(folder)
    if isinstance(tensor, torch.nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _write_none(graph: Any, block: Any, known: dict[int, object]) -> None:
    """Write out attributes that hold None, such as the bias of a convolution without one: freezing keeps them."""
    for node in list(block.nodes()):
        if node.kind() == "prim::GetAttr":
            value = getattr(known[node.input().unique()], node.s("name"))
            known[node.output().unique()] = value
            if value is None:
                none = graph.create("prim::Constant")
                none.insertBefore(node)
                none.output().setType(torch._C.NoneType.get())
                node.output().replaceAllUsesWith(none.output())
        for inner in node.blocks():
            _write_none(graph, inner, known)


def _write_ranks(graph: Any, block: Any) -> None:
    """Write out how many dimensions tensors have, which is the same at all sizes that the app chooses."""
    for node in list(block.nodes()):
        for inner in node.blocks():
            _write_ranks(graph, inner)
        if node.kind() != "aten::dim":
            continue
        sizes = node.input().type().varyingSizes() if isinstance(node.input().type(), torch._C.TensorType) else None
        if sizes is not None:
            rank = graph.insertConstant(len(sizes))
            rank.node().moveBefore(node)
            node.output().replaceAllUsesWith(rank)


def _read_once(graph: Any) -> None:
    """Let later reads of a buffer use what an operator in place made of it, as a trace does.

    Given:   %a = GetAttr[name="total"](%m);  %b = add_(%a, %x);  %c = GetAttr[name="total"](%m);  %d = mul(%c, 2)
    Result:  %a = GetAttr[name="total"](%m);  %b = add_(%a, %x);  %d = mul(%b, 2)
    """
    paths = {next(graph.inputs()).unique(): ""}
    latest: dict[str, Any] = {}
    for node in list(graph.nodes()):
        if node.kind() == "prim::GetAttr":
            path = paths[node.output().unique()] = f"{paths[node.input().unique()]}.{node.s('name')}"
            if path in latest:
                node.output().replaceAllUsesWith(latest[path])
            elif str(node.output().type()) == "Tensor":
                latest[path] = node.output()
        elif node.kind().startswith("aten::") and node.kind().endswith("_"):
            changed = next(node.inputs()).unique()
            latest.update({path: node.output() for path, value in latest.items() if value.unique() == changed})


def _leave_out_errors(block: Any) -> None:
    """Take the other way of every branch of which one way only raises an error.

    Given:   %y = if %bad: raise … -> uninitialized;  else: f(…) -> %x
    Result:  f(…), and %x for %y
    """
    for node in list(block.nodes()):
        ways = list(node.blocks())
        for inner in ways:
            _leave_out_errors(inner)
        kept = [way for way in ways if all(n.kind() != "prim::RaiseException" for n in way.nodes())]
        if node.kind() != "prim::If" or len(kept) != 1:
            continue
        (way,) = kept
        for inner in list(way.nodes()):
            inner.moveBefore(node)
        for output, value in zip(node.outputs(), list(way.outputs()), strict=True):
            output.replaceAllUsesWith(value)
        node.destroy()
