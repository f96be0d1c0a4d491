"""Which module's output goes to which other module and nowhere else, seen by running the examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from builder.model.substitutions.shapes import Run


def consumers_on(
    root: torch.nn.Module, producers: Iterable[torch.nn.Module], consumers: Iterable[torch.nn.Module], run: Run
) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
    """Return the pairs in which all that the first returns goes to the second alone, and that takes nothing else.

    Raises nothing of its own: modules that are not run, or that share their output, are in no pair.
    """
    watch = _Watch()
    hooks = []
    for consumer in consumers:
        hooks.append(consumer.register_forward_pre_hook(watch.enter, with_kwargs=True))
        hooks.append(consumer.register_forward_hook(watch.leave))
    hooks += [producer.register_forward_hook(watch.produced) for producer in producers]
    try:
        with watch:
            returned = run(root)
    finally:
        for hook in hooks:
            hook.remove()
    for tensor in returned:
        watch.used_elsewhere(tensor)
    return watch.pairs()


class _Watch(TorchFunctionMode):
    """Sees every torch function that is called with what a producer returned."""

    def __init__(self) -> None:
        super().__init__()
        self._producer: Any = WeakTensorKeyDictionary()
        self._running: list[torch.nn.Module] = []
        self._takers: dict[torch.nn.Module, set[torch.nn.Module | None]] = {}
        self._givers: dict[torch.nn.Module, set[torch.nn.Module | None]] = {}

    def produced(self, module: torch.nn.Module, _: object, output: object) -> None:
        """Remember who returned a tensor; rows of more than two dimensions of a Linear are not channels."""
        self._takers.setdefault(module, set())
        if not isinstance(output, torch.Tensor) or (isinstance(module, torch.nn.Linear) and output.dim() != 2):
            self._takers[module].add(None)
        else:
            self._producer[output] = module

    def enter(self, module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Note from whom a consumer takes its input."""
        given = [*args, *kwargs.values()]
        giver = self._producer.get(given[0]) if len(given) == 1 and isinstance(given[0], torch.Tensor) else None
        self._givers.setdefault(module, set()).add(giver)
        if giver is not None:
            self._takers[giver].add(module)
        self._running.append(module)

    def leave(self, *_: object) -> None:
        """Note that a consumer is done."""
        self._running.pop()

    def used_elsewhere(self, tensor: torch.Tensor) -> None:
        """Note a use outside of consumers."""
        producer = self._producer.get(tensor)
        if producer is not None:
            self._takers[producer].add(None)

    def __torch_function__(
        self, func: Any, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._running and any(True for _ in _tensors(result)):
            for tensor in _tensors([args, kwargs]):
                self.used_elsewhere(tensor)
        return result

    def pairs(self) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
        """Producers with the one consumer that takes all of theirs and only theirs."""
        found = []
        for producer, takers in self._takers.items():
            taker = next(iter(takers)) if len(takers) == 1 else None
            if taker is not None and self._givers[taker] == {producer}:
                found.append((producer, taker))
        return found


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)
