"""A lowering called with a node of coremltools' torch frontends: arguments in, results out, for traces and exports."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any

from builder.backends.coreml.lowerings.lowering import Constant, Lowering, Var

if TYPE_CHECKING:
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRGraph, InternalTorchIRNode


READ = "builder_outputs_read"
"""Under this name the nodes of an exported program keep which of their results are taken."""


def run_lowering(lowering: Lowering, context: TranscriptionContext, node: InternalTorchIRNode) -> None:
    """Add the operators of `lowering` to the program, and its results under the names of the node's outputs."""
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - as coremltools itself calls it

    if node.kind == "zero_":  # of a slice, as Swin v2 has it: a trace would lose it, an exported program does not
        raise NotImplementedError("zero_ writes in place, which a trace loses where it writes into a part of a tensor")
    results = _called(lowering.lower, mb, **arguments(lowering.lower, context, node, skip=1))
    if not isinstance(results, tuple):
        context.add(results, torch_name=node.name)
    elif len(node.outputs) > 1:  # a trace names each, also those that serve training alone and are not made
        for result, name in zip(results, node.outputs, strict=False):
            context.add(result, torch_name=name)
    else:
        context.add(results, torch_name=node.name)


def applies_to(lowering: Lowering, context: TranscriptionContext, node: InternalTorchIRNode) -> bool:
    """Whether the node is a case for `lowering`, where coremltools has a lowering of its own."""
    if lowering.applies is None:
        return True
    asked = {parameter.name for parameter in _parameters(lowering.applies)}
    given = arguments(lowering.lower, context, node, skip=1, only=asked)
    if "second_is_read" in asked:
        given["second_is_read"] = _second_is_read(context, node)
    return bool(_called(lowering.applies, **{name: value for name, value in given.items() if name in asked}))


def _called(function: Callable[..., Any], *first: object, **given: Any) -> Any:
    """The function of arguments by name; those of `*rest` are a tuple."""
    parameters = _parameters(function)
    rest = next((index for index, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), None)
    if rest is None:
        return function(*first, **given)
    before = [given.pop(p.name) for p in parameters[len(first) : rest] if p.name in given]
    return function(*first, *before, *given.pop(parameters[rest].name, ()), **given)


def _second_is_read(context: TranscriptionContext, node: InternalTorchIRNode) -> bool:
    """Whether anything takes the second result of an operator."""
    if node.meta is not None:
        return 1 in node.meta.get(READ, ())
    if len(node.outputs) < 2:
        return False

    def reads(block: InternalTorchIRGraph) -> bool:
        return any(
            node.outputs[1] in map(str, each.inputs) or any(map(reads, each.blocks)) for each in block.nodes
        ) or node.outputs[1] in map(str, block.outputs)

    return reads(context.torch_graph)


def arguments(
    function: Callable[..., object],
    context: TranscriptionContext,
    node: InternalTorchIRNode,
    *,
    skip: int = 0,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """The node's arguments by the names of the function's parameters; those that are left out have its defaults.

    Arguments by place that no parameter before `*rest` takes are a tuple under that name.
    Keywords that the function does not take are refused, unless it takes any. With `only`, no others are looked up:
    a number of an exported program becomes a constant by that, and constants are counted in names.
    """
    from coremltools.converters.mil.frontend.torch.ops import _get_bindings

    parameters = _parameters(function)[skip:]
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    placed = [p for p in named if p.kind is not p.KEYWORD_ONLY]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    known = {p.name for p in named}
    wanted = known if only is None else known & set(only)
    given: dict[str, Var] = {
        p.name: _get_bindings(context, [bound])[0]
        for p, bound in zip(placed, node.inputs, strict=False)
        if p.name in wanted
    }
    attributes = {**(getattr(node, "attr", None) or {})}
    given |= {name: attributes[name] for name in wanted & attributes.keys() - given.keys()}
    if len(node.inputs) > len(placed) and not takes_any and rest is None:
        raise NotImplementedError(f"{node.kind} with {len(node.inputs)} arguments is not known")
    for keyword, bound in (node.kwinputs or {}).items():
        name = "x" if keyword == "self" else keyword
        if name in wanted:
            values = _get_bindings(context, bound)
            given[name] = values[0] if values else None
        elif name not in known and not takes_any and keyword not in _IRRELEVANT:
            raise NotImplementedError(f"{node.kind} with {keyword} is not known")
    found: dict[str, Any] = {p.name: _as_wanted(p, given[p.name]) for p in named if p.name in given}
    if rest is not None and (only is None or rest in only):
        found[rest] = tuple(constant(_get_bindings(context, [bound])[0]) for bound in node.inputs[len(placed) :])
    return found


_IRRELEVANT = {"device", "layout", "memory_format", "pin_memory", "non_blocking"}
"""Where and how torch keeps a tensor in memory."""


@cache
def _parameters(function: Callable[..., object]) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(function).parameters.values())


def _as_wanted(parameter: inspect.Parameter, value: Var) -> object:
    return value if "Var" in str(parameter.annotation) else constant(value)


def constant(value: Var) -> Constant:
    """The Python value of a constant variable, of each in a list; a variable that is none stays."""
    import numpy as np

    if isinstance(value, list | tuple):
        return [constant(entry) for entry in value]
    known = getattr(value, "val", value)
    if known is None:
        return value
    return known.tolist() if isinstance(known, np.ndarray | np.generic) else known
