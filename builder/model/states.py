"""States: the buffers that a model keeps between predictions, found and set back to zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from builder.errors import ConfigurationError
from builder.spec.inputs import State
from builder.util.suggest import did_you_mean


def check_states(module: torch.nn.Module, states: Mapping[str, State]) -> None:
    """Raise ConfigurationError for a state that is not a buffer of `module` that begins with floating-point zeros."""
    buffers = dict(module.named_buffers(remove_duplicate=False))
    for name, state in states.items():
        key = f"state.{name}.buffer"
        buffer = buffers.get(state.buffer)
        if buffer is None:
            listed = f"its buffers: {', '.join(list(buffers)[:8])}" if buffers else "it has none: see register_buffer"
            raise ConfigurationError(
                f"the model has no buffer {state.buffer}",
                code="B0249",
                hint=did_you_mean(state.buffer, buffers) or listed,
                key=key,
            )
        if not buffer.is_floating_point() or buffer.ndim == 0:
            raise ConfigurationError(
                f"buffer {state.buffer} is {str(buffer.dtype).removeprefix('torch.')} of shape {tuple(buffer.shape)}, "
                "and Core ML keeps arrays of float16",
                code="B0249",
                key=key,
            )
        if bool(buffer.count_nonzero()):
            raise ConfigurationError(
                f"buffer {state.buffer} does not begin with zeros, as states of Core ML do",
                code="B0249",
                hint="let the app write the first value, or add it in forward",
                key=key,
            )


def undeclared(module: torch.nn.Module, before: Mapping[str, torch.Tensor], states: Mapping[str, State]) -> list[str]:
    """The buffers that running `module` changed and that no state declares."""
    declared = {state.buffer for state in states.values()}
    return [
        name
        for name, buffer in module.named_buffers()
        if name not in declared and not (name in before and torch.equal(buffer, before[name]))
    ]


def reset_states(module: torch.nn.Module, buffers: Iterable[str]) -> None:
    """Set the buffers at these paths to zero, as `makeState()` does."""
    wanted = set(buffers)
    if not wanted:
        return
    with torch.no_grad():
        for path, buffer in module.named_buffers(remove_duplicate=False):
            if path in wanted:
                buffer.zero_()
