"""Torch operators that coremltools cannot convert yet: one file a family, registered only where they are missing."""

from __future__ import annotations

from builder.lowerings.masks import MASKS


def register_lowerings() -> None:
    """Teach coremltools the operators that it lacks; one that it knows (a later version) stays its own."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    for name, lower in MASKS.items():
        if name not in _TORCH_OPS_REGISTRY.name_to_func_mapping:
            _TORCH_OPS_REGISTRY.set_func_by_name(lower, name)
