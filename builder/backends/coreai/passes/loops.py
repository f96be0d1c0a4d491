"""What loops carry, written so that Apple's interpreter does not keep it where the next turn writes something else.

Of `h = x[:, :4] * x[:, 4:] + h` with `x = h @ w`, coreai-core 1.0.0b3 keeps the sum in the memory of `x`, of which the
next turn writes its own before it has read `h`. What is carried is therefore copied, by a product with 1. Delete this
when the fixed version is the oldest that we support (`tests/unit/backends/coreai/test_loops.py` has the loop).
"""

from __future__ import annotations

from torch import Tag, ops
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

_LOOP = ops.higher_order.while_loop


def copy_carried(program: ExportedProgram) -> None:
    """Change the bodies of loops in place, those of loops within loops too.

    Given:   (h) -> add(%x, %h)
    Result:  (h) -> mul(add(%x, %h), 1)
    """
    for module in program.graph_module.modules():
        loops = module.graph.find_nodes(op="call_function", target=_LOOP) if isinstance(module, GraphModule) else ()
        for loop in loops:
            body = module.get_submodule(str(loop.args[1].target))
            assert isinstance(body, GraphModule), "torch.export makes a graph of a body"
            _copy_outputs(body)


def _copy_outputs(body: GraphModule) -> None:
    (output,) = body.graph.find_nodes(op="output")
    values = list(output.args[0])
    for place, value in enumerate(values):
        if isinstance(value, Node) and _may_be_part(value):
            with body.graph.inserting_before(output):
                values[place] = body.graph.call_function(ops.aten.mul.Tensor, (value, 1))
            values[place].meta = dict(value.meta)
    output.args = (tuple(values),)
    body.recompile()


def _may_be_part(node: Node) -> bool:
    """Whether a result may lie in what it was computed of: numbers one by one, or a view; a counter is one number."""
    value = node.meta.get("val")
    if value is None or value.dim() == 0 or not value.dtype.is_floating_point or node.op != "call_function":
        return False
    if not isinstance(node.target, OpOverload):
        return True
    is_view = any(returned.alias_info is not None for returned in node.target._schema.returns)
    return is_view or node.target is ops.aten.clone.default or Tag.pointwise in node.target.tags
