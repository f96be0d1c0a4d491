"""States: the buffers that a model keeps between predictions, found and set back to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

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


def refuse_other_answers(
    module: torch.nn.Module,
    answer: Callable[[int], Sequence[torch.Tensor]],
    first: Sequence[torch.Tensor],
    before: Mapping[str, object],
) -> None:
    """Raise ConversionError where a model has another answer for the same inputs, called once more.

    It carries something on that is not a buffer, which no program does. `answer` runs it on sample 0 or -1; `first` is
    its first answer to sample 0, and `before` the `plain_values` that it had then. What it only notes, such as weights
    of attention to look at, changes no answer; operators of torch's that draw at random are refused by name later.
    """
    drawn = torch.get_rng_state()
    is_same = _is_same(first, answer(0))
    kept = [path for path, value in plain_values(module).items() if not _is_value(before.get(path), value)]
    if is_same and kept:
        answer(-1)
        is_same = _is_same(first, answer(0))
    if is_same or not torch.equal(torch.get_rng_state(), drawn):
        return
    if not kept:
        raise ConversionError(
            "the model gives another answer each time that it is called with the same inputs",
            code="B0403",
            hint="it counts, or draws random numbers with something else than torch: take that as an input",
            key="source",
        )
    raise ConversionError(
        f"the model keeps {', '.join(kept[:3])} from one call to the next in attributes, which are not buffers",
        code="B0403",
        hint="return a module from a factory of your own (`kind: python`) that takes what is kept as an input and "
        "returns it; or register it as a buffer, and name that under `state`",
        key="source",
    )


def _is_same(answer: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    """Whether two answers are alike but for what threads round otherwise: 1e-4 of the largest value."""
    return len(answer) == len(other) and all(map(_is_alike, answer, other))


def _is_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    finite = one[one.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4 * scale, equal_nan=True)


def plain_values(module: torch.nn.Module) -> dict[str, object]:
    """Numbers, words and copies of tensors in attributes other than torch's own, alone or in lists or dictionaries."""
    found: dict[str, object] = {}
    for path, inner in module.named_modules():
        for name, value in vars(inner).items():
            for place, each in _parts(value) if name not in _TORCHS else ():
                if isinstance(each, torch.Tensor | int | float | str | None):
                    kept = each.detach().clone() if isinstance(each, torch.Tensor) else each
                    found[f"{path}.{name}{place}".lstrip(".")] = kept
    return found


_TORCHS = frozenset(vars(torch.nn.Module()))


def _parts(value: object) -> Iterable[tuple[str, object]]:
    """What is in a list or dictionary, with its place; else the value itself."""
    if isinstance(value, dict):
        return ((f"[{key!r}]", each) for key, each in value.items())
    if isinstance(value, tuple | list):
        return ((f"[{number}]", each) for number, each in enumerate(value))
    return (("", value),)


def _is_value(before: object, value: object) -> bool:
    if isinstance(before, torch.Tensor) and isinstance(value, torch.Tensor):
        return torch.equal(before, value)
    return type(before) is type(value) and before == value
