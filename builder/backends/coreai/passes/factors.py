"""Sums with a factor (`alpha`) as a product and a sum: coreai-torch 0.4.3 drops the factor without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import ops

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_SUMS = {
    ops.aten.add.Tensor: 1,
    ops.aten.add.Scalar: 1,
    ops.aten.sub.Tensor: 1,
    ops.aten.sub.Scalar: 1,
    ops.aten.rsub.Tensor: 0,
    ops.aten.rsub.Scalar: 0,
}
"""By operator, the place of the argument that the factor belongs to."""


def write_out_factors(program: ExportedProgram) -> int:
    """Change the program, before its decomposition; returns how many sums had a factor.

    Given:   add(x, y, alpha=2)
    Result:  add(x, mul(y, 2))
    """
    count = 0
    for node in list(program.graph.nodes):
        if node.op != "call_function" or node.target not in _SUMS:
            continue
        factor = node.args[2] if len(node.args) > 2 else node.kwargs.get("alpha", 1)
        if factor == 1:
            continue
        count += 1
        place = _SUMS[node.target]
        other = node.args[place]
        if isinstance(other, int | float):
            scaled = other * factor
        else:
            with program.graph.inserting_before(node):
                scaled = program.graph.call_function(ops.aten.mul.Tensor, (other, factor))
            scaled.meta = {**node.meta, "val": other.meta["val"]}
        node.args = tuple(scaled if at == place else each for at, each in enumerate(node.args[:2]))
        node.kwargs = {name: value for name, value in node.kwargs.items() if name != "alpha"}
    if count:
        program.graph_module.recompile()
    return count
