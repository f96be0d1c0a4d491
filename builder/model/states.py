"""States: the buffers that a model keeps between predictions, found and set back to zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from builder.errors import ConfigurationError, ConversionError
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


def refuse_kept_attributes(
    module: torch.nn.Module, samples: Sequence[Sequence[torch.Tensor]], states: Iterable[str]
) -> None:
    """Raise ConversionError where a model answers by what it was called with before, which no program carries on.

    Tensors in plain attributes are what a model may carry on beside its states; one that has none is not called.
    What is only noted there, such as weights of attention to look at, changes no answer.
    """
    before = dict(_plain_tensors(module))
    if not before:
        return
    answers = []
    for sample in (samples[0], samples[-1], samples[0]):
        reset_states(module, states)
        with torch.no_grad():
            answers.append(tuple(module(*sample)))
    reset_states(module, states)
    first, _, again = answers
    if all(np.array_equal(one.numpy(), other.numpy()) for one, other in zip(first, again, strict=True)):
        return
    after = _plain_tensors(module)
    kept = [path for path, value in after if path not in before or not torch.equal(value, before[path])]
    if kept:
        raise ConversionError(
            f"the model keeps {', '.join(kept[:3])} from one call to the next in attributes, which are not buffers",
            code="B0403",
            hint="return a module from a factory of your own (`kind: python`) that takes what is kept as an input and "
            "returns it; or register it as a buffer, and name that under `state`",
            key="source",
        )


def _plain_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Copies of tensors in attributes of modules that are neither parameters nor buffers, alone or in tuples."""
    for path, inner in module.named_modules():
        for name, value in vars(inner).items():
            several = value if isinstance(value, tuple | list) else (value,)
            for number, each in enumerate(several):
                if isinstance(each, torch.Tensor):
                    place = f"{name}[{number}]" if each is not value else name
                    yield f"{path}.{place}".lstrip(".").removeprefix("model."), each.detach().clone()
