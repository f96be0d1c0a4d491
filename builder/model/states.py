"""States: the buffers that a model keeps between predictions, found and set back to zero."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from types import SimpleNamespace

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


def decide(module: torch.nn.Module, buffers: Sequence[str], answer: Answer, samples: Iterable[int]) -> bool:
    """Whether what these buffers hold before a call decides something of the answer, or may.

    They are filled with what a counter, a mean, a flag or a cache may hold after a while, and set back at the end. A
    cache whose used part every call writes first decides nothing, and neither does a counter that is only kept.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return True  # a compiled module has its buffers in C++
    held = {path: buffer for path, buffer in module.named_buffers(remove_duplicate=False) if path in buffers}
    before = {path: buffer.clone() for path, buffer in held.items()}
    generator = torch.Generator().manual_seed(0)

    def fill(scale: int) -> None:
        for path, buffer in held.items():
            noise = torch.randn(buffer.shape, generator=generator) * scale
            buffer.copy_(_later(before[path], noise) if scale else before[path])

    try:
        with torch.no_grad():
            for number in samples:
                fill(0)
                expected = answer(module, number)
                for scale in (0, 1, 3, 100, 10_000, 1_000_000):  # once as it is: who draws at random is not the same
                    fill(scale)
                    if not _is_same(expected, answer(module, number)):
                        return True
    except Exception:  # whatever the model raises for values that it never had
        return True
    finally:
        with torch.no_grad():
            fill(0)
    return False


def _later(before: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What a buffer may hold after a while: counters are higher, flags turned, other numbers have moved."""
    if before.dtype is torch.bool:
        return before ^ (noise > 0)
    return before + (noise if before.is_floating_point() else noise.abs().ceil()).to(before.dtype)


class OneAnswer:
    """Whether a model answers by its inputs alone: begun before its first call, with what it holds then."""

    def __init__(
        self, module: torch.nn.Module, answer: Answer, fresh: Callable[[], torch.nn.Module], others: Sequence[int]
    ) -> None:
        """`answer` runs a module on a sample by its number; `fresh` is a copy that was not called yet.

        `others` are the numbers of samples with other sizes, which a first call may have as well.
        """
        self._module, self._answer, self._fresh, self._others = module, answer, fresh, others
        self._before = plain_values(module)
        self._weights = {name: _mark(value) for name, value in module.named_parameters()}
        self._buffers = {name: _mark(value) for name, value in module.named_buffers()}

    def check(self, first: Sequence[torch.Tensor]) -> tuple[str, ...]:
        """Raise ConversionError unless the answer to sample 0, once more, is the `first`, whatever came between.

        Returns the attributes that calls change, other than buffers: `model.layers.0.seen`.

        A model may carry something on that is not a buffer, or hold on to something of its first input; no program
        does. What it only notes, such as weights of attention to look at, changes no answer; operators of torch's that
        draw at random are refused by name later.
        """
        weights = [name for name, value in self._module.named_parameters() if _mark(value) != self._weights[name]]
        if weights:
            raise _kept(weights, "running the model changes its parameter", "to what its first input gives")
        drawn = torch.get_rng_state()
        is_same = _is_same(first, self._answer(self._module, 0))
        now = plain_values(self._module)
        kept = [path for path, value in now.items() if not _is_value(self._before.get(path), value)]
        marks = {name: _mark(value) for name, value in self._module.named_buffers()}
        if is_same and kept:
            self._answer(self._module, -1)
            is_same = _is_same(first, self._answer(self._module, 0))
        if is_same and (counted := self._deciding_counters()):
            raise _kept(counted, "answers of the model depend on", "as it counts its calls")
        changed = kept + [name for name, mark in marks.items() if mark != self._buffers.get(name)]
        begun = [-1, *self._others] if changed else self._others  # a size may be held outside of the module as well
        for number in begun if is_same else ():
            fresh = self._fresh()
            self._answer(fresh, number)
            is_same = is_same and _is_same(first, self._answer(fresh, 0))
        if is_same or not torch.equal(torch.get_rng_state(), drawn):
            return tuple(dict.fromkeys(path.partition("[")[0] for path in kept))
        if changed:
            what = "in attributes, which are not buffers" if kept else "in buffers that its first call sets"
            raise _kept(changed, "the model keeps", f"from one call to the next {what}")
        raise ConversionError(
            "the model gives another answer when it is called again with the same inputs, or after others",
            code="B0403",
            hint="it counts, draws random numbers with something else than torch, or keeps what it was called with "
            "outside of its modules: take that as an input",
            key="source",
        )

    def _deciding_counters(self) -> list[str]:
        """Attributes that grow from one call to the next with the same input, and decide an answer once they are great.

        `if self.calls > 1000` is never seen in a few calls.
        """
        expected, before = self._answer(self._module, 0), plain_values(self._module)
        self._answer(self._module, 0)
        now = plain_values(self._module)
        counters = [
            (path, value)
            for path, value in now.items()
            if isinstance(value, int | float) and type(before.get(path)) is type(value) and value != before[path]
        ]
        for path, value in counters:
            owner, name = self._module.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]
            for later in (10, 100, 1_000, 100_000, 10_000_000):
                if name not in vars(owner):  # in a list or dictionary
                    break
                setattr(owner, name, value + later)
                try:
                    is_same = _is_same(expected, self._answer(self._module, 0))
                except Exception:  # whatever the model raises: it is not seen to go on counting
                    is_same = True
                setattr(owner, name, value)
                if not is_same:
                    return [path]
        return []


Answer = Callable[[torch.nn.Module, int], Sequence[torch.Tensor]]


def _kept(names: Sequence[str], what: str, how: str) -> ConversionError:
    return ConversionError(
        f"{what} {', '.join(name.removeprefix('model.') for name in names[:3])} {how}",
        code="B0403",
        hint="return a module from a factory of your own (`kind: python`) that takes what is kept as an input and "
        "returns it; or register it as a buffer, and name that under `state`; what a first input sets is set before, "
        "by a call in the factory",
        key="source",
    )


def _mark(value: torch.Tensor) -> str:
    """The sum of a tensor and its first value, in words, in which NaN is like NaN; another tensor hardly has both."""
    with torch.no_grad():
        flat = value.detach().reshape(-1)
        return f"{flat.sum().item()} {flat[0].item()}" if flat.numel() else ""


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
    if isinstance(value, tuple | list | deque):
        return ((f"[{number}]", each) for number, each in enumerate(value))
    if isinstance(value, SimpleNamespace) or is_dataclass(value):
        return ((f".{name}", each) for name, each in getattr(value, "__dict__", {}).items())
    return (("", value),)


def _is_value(before: object, value: object) -> bool:
    if isinstance(before, torch.Tensor) and isinstance(value, torch.Tensor):
        return torch.equal(before, value)
    return type(before) is type(value) and before == value
