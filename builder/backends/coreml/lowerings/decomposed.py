"""Operators of an exported program that have no lowering, written with others as torch itself defines them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.artifacts.stages import CapturedProgram
from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.lowerings.register import registered_lowerings
from builder.backends.coreml.lowerings.torch_definitions import completed, unknown_definitions
from builder.model.capture.composites import run_decompositions
from builder.model.capture.conditions import open_sizes
from builder.model.capture.rewritten import check_rewritten
from builder.model.capture.torchscript import read_by_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch._ops import OpOverload
    from torch.export import ExportedProgram

_MOST_ROUNDS = 5
"""What an operator is made of may have no lowering either."""


def written_out(captured: CapturedProgram) -> CapturedProgram:
    """The captured program; where it is an exported one, with torch's definitions for what has no lowering.

    What has no definition either stays, and is refused by its name.

    Given:   %k = aten.kron(%a, %b)
    Result:  %k = aten.view(aten.mul(aten.view(%a), aten.view(%b)))
    """
    if captured.method in ("trace", "script"):
        read_by_name(captured.program)
    if captured.method != "export":
        return captured
    import_coremltools()
    with registered_lowerings():
        program = decomposed(captured.program)
    return captured if program is captured.program else replace(captured, program=program)


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The exported program without the operators that torch defines by others; lowerings must be registered."""
    from torch._subclasses.fake_tensor import UnsupportedOperatorException

    given, places = program, open_sizes(program)
    for _ in range(_MOST_ROUNDS):
        table = unknown_definitions(program)
        if not table:
            break
        try:
            program = _written_with(program, table)
        except UnsupportedOperatorException:  # of an operator that torch can only run: it is refused by its name
            known = {
                operator: definition for operator, definition in table.items() if _is_known(program, operator, table)
            }
            program = _written_with(program, known)
            break
    if program is not given:
        check_rewritten(given, places, program, given.graph_signature.user_inputs)
    completed(program.graph_module)
    _rename_like_words(program)
    return program


def _written_with(program: ExportedProgram, table: Mapping[OpOverload, Callable[..., object]]) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own use of what torch deprecates
        return run_decompositions(program, table)


def _is_known(
    program: ExportedProgram, operator: OpOverload, table: Mapping[OpOverload, Callable[..., object]]
) -> bool:
    from torch._subclasses.fake_tensor import UnsupportedOperatorException

    try:
        _written_with(program, {operator: table[operator]})
    except UnsupportedOperatorException:
        return False
    return True


def _rename_like_words(program: ExportedProgram) -> None:
    """Give another name to what is called as a word among the arguments is: coremltools takes the word for it.

    Given:   %trunc = aten.trunc(%x);  %y = aten.div(%x, %z, rounding_mode="trunc")
    Result:  %trunc_value = aten.trunc(%x);  %y = aten.div(%x, %z, rounding_mode="trunc")
    """
    graph = program.graph_module.graph
    words = {
        word for node in graph.nodes for word in (*node.args, *node.kwargs.values()) if isinstance(word, str)
    }  # fmt: skip
    for node in graph.nodes:
        if node.op == "call_function" and node.name in words:
            before = node.name
            node._rename(f"{before}_value")
            program.graph_signature.replace_all_uses(before, node.name)
