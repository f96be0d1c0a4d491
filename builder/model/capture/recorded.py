"""What a model's call runs, as torch dispatches it: for models that no capture reads, such as those with gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.fx.experimental.proxy_tensor import make_fx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule


def recorded(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> GraphModule:
    """The ATen operators of one call, below autograd and functorch: `autograd.grad`, `vmap` and `jvp` are no more.

    Nothing tells the model that it is captured (`torch.jit.is_tracing`, `torch.compiler.is_exporting`). A branch on a
    value raises, as torch does; one on a size is taken as for `inputs`. Parameters keep their names, with `_` for dots.
    """
    program: GraphModule = make_fx(module)(*inputs)
    tensors = (*module.named_parameters(), *module.named_buffers())
    names = {id(tensor): name.replace(".", "_") for name, tensor in tensors}
    for node in program.graph.find_nodes(op="get_attr"):
        tensor = getattr(program, node.target)
        if name := names.get(id(tensor)):
            setattr(program, name, tensor)
            node.target = name
    program.delete_all_unused_submodules()
    program.recompile()
    return program
