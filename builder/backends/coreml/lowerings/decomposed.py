"""Operators of an exported program that have no lowering, written with others as torch itself defines them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from builder.artifacts import CapturedProgram
from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.lowerings.register import registered_lowerings

_MOST_ROUNDS = 5
"""What an operator is made of may have no lowering either."""

_UNFIT = ("corrcoef.default", "cov.default", "gru.input", "lstm.input", "rnn_relu.input", "rnn_tanh.input")
"""Operators whose definition asks for values, which nothing has while a program is written, or has a copy of a cell
for each step: traces keep recurrent layers whole."""

_BETTER_DEFINED = tuple(f"fft_{way}fft{many}" for way in ("", "i", "r", "ir") for many in ("", "n"))
"""Operators whose definition converts in every case, and coremltools' own lowering in some."""

_BEYOND_CORE = ("grid_sampler_2d.default", "vdot.default")
"""Operators that torch can write with others, and leaves out of its table for core ATen."""


def written_out(captured: CapturedProgram) -> CapturedProgram:
    """The captured program; where it is an exported one, with torch's definitions for what has no lowering.

    What has no definition either stays, and is refused by its name.

    Given:   %k = aten.kron(%a, %b)
    Result:  %k = aten.view(aten.mul(aten.view(%a), aten.view(%b)))
    """
    if captured.method != "export":
        return captured
    import_coremltools()
    with registered_lowerings():
        program = decomposed(captured.program)
    return captured if program is captured.program else replace(captured, program=program)


def decomposed(program: Any) -> Any:
    """The exported program without the operators that torch defines by others; lowerings must be registered."""
    for _ in range(_MOST_ROUNDS):
        table = _definitions(program)
        if not table:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own use of what torch deprecates
            program = _without_complex_casts(program.run_decompositions(table))
    return program


def _without_complex_casts(program: Any) -> Any:
    """Let Fourier transforms take real numbers as they are: coremltools has no cast to complex ones.

    Given:   %c = aten._to_copy(%x, dtype=complex64); %y = aten._fft_c2c(%c, …)
    Result:  %y = aten._fft_c2c(%x, …)
    """
    for node in list(program.graph.nodes):
        if str(node.target) == "aten._to_copy.default" and node.meta["val"].is_complex() and _is_transformed(node):
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()
    return program


def _is_transformed(node: Any) -> bool:
    """Whether complex numbers go to Fourier transforms alone, filled up, cut or conjugated on the way."""
    names = [(user, str(user.target).removeprefix("aten.")) for user in node.users]
    return all(
        name.startswith("_fft_c2")
        or (
            name
            in ("constant_pad_nd.default", "slice.Tensor", "_conj.default", "conj.default", "_conj_physical.default")
            and _is_transformed(user)
        )
        for user, name in names
    )


def kind_of_node(node: Any) -> str:
    """The name by which coremltools looks up a node of an exported program."""
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    target = node.target
    name = (
        target.name() if hasattr(target, "name") and callable(target.name) else getattr(target, "__name__", str(target))
    )
    return str(sanitize_op_kind(name))


def _definitions(program: Any) -> Mapping[Any, Callable[..., Any]]:
    """Torch's definitions of the operators of a program that have no lowering."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    known = _TORCH_OPS_REGISTRY.get_func
    kinds = [(node.target, kind_of_node(node)) for node in calls]
    unknown = {target for target, kind in kinds if kind in _BETTER_DEFINED or known(kind) is None}
    if not unknown:
        return {}
    import torch
    from torch._decomp import decomposition_table

    core = torch.export.default_decompositions()
    beyond = dict.fromkeys(_BEYOND_CORE, decomposition_table)
    found = {}
    for target in unknown:
        name = str(target).removeprefix("aten.")
        table = core if target in core else beyond.get(name, {})
        if target in table and name not in _UNFIT:
            found[target] = table[target]
    return found
