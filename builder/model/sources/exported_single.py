"""A program in half precision as one in float32, in which a build computes; what the artifact has, `precision` says."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx.node import map_aggregate

_CHECKS = (torch.ops.aten._assert_tensor_metadata.default,)


def has_half(program: torch.export.ExportedProgram) -> bool:
    """Whether a weight, buffer or constant of it is in float16."""
    values = (*program.state_dict.values(), *program.constants.values())
    return any(isinstance(value, torch.Tensor) and value.dtype is torch.float16 for value in values)


def to_single(module: torch.nn.Module) -> torch.nn.Module:
    """Change the module in place: its weights, and the types that its graphs name.

    Given   conv2d(to(x, float16), w: float16)
    Result  conv2d(to(x, float32), w: float32)
    """
    for part in module.modules():
        if isinstance(part, GraphModule):
            _graph_to_single(part)
    module.apply(_attributes_to_single)
    return module.float()


def _graph_to_single(part: GraphModule) -> None:
    for node in list(part.graph.nodes):
        if node.target in _CHECKS:
            part.graph.erase_node(node)
            continue
        node.args = map_aggregate(node.args, _single)
        node.kwargs = map_aggregate(node.kwargs, _single)
    part.recompile()


def _single(value: object) -> Any:
    return torch.float32 if value is torch.float16 else value


def _attributes_to_single(part: torch.nn.Module) -> None:
    """Constants that are neither parameters nor buffers."""
    for name, value in list(vars(part).items()):
        if isinstance(value, torch.Tensor) and value.dtype is torch.float16:
            setattr(part, name, value.float())
