"""Wrong kernels on purpose: while a family is active, everything that its operators or layers return is off.

A family is a file of kernels. Two more are those that take the place of a kernel: loops, and packed weights.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch

from coreml_runtime import loops, prepack
from coreml_runtime.nn import layers
from coreml_runtime.ops import operators


def wrong(value: Any) -> Any:
    """A value of the same type and shape that no correct kernel returns."""
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bool:
            return ~value
        return value * 1.05 + 0.05 if value.is_floating_point() else value + 1
    if isinstance(value, tuple):
        return tuple(wrong(each) for each in value)
    if isinstance(value, str):
        return value + "?"
    return dict.fromkeys(value, 0.0) if isinstance(value, dict) else value


class Mutations:
    """Wraps every kernel and layer once; `active` names the family that is wrong at the moment, "" none."""

    def __init__(self) -> None:
        self.active = ""
        self.families: dict[str, set[str]] = {}
        for name, kernel in operators().items():
            operators()[name] = self._wrap(kernel, self._family(kernel, "ops", name))
        for name, binder in layers().items():
            layers()[name] = self._wrap_binder(binder, f"nn.{self._layer_family(name)}")
        self.families |= {"loops": {"gru_loop"}, "prepack": set(prepack._PREPARE)}
        for name, prepare in loops.PREPARE.items():
            loops.PREPARE[name] = self._wrap_prepared(prepare, "loops" if name in loops.LOOPS else "ops.recurrent")
        for name, pack in prepack._PREPARE.items():
            prepack._PREPARE[name] = self._wrap_prepared(pack, "prepack")

    def touched(self, names: Iterable[str]) -> set[str]:
        """The families of which at least one operator or layer is among `names`."""
        found = set(names)
        return {family for family, members in self.families.items() if members & found}

    def _family(self, kernel: Any, room: str, name: str) -> str:
        family = f"{room}.{kernel.__module__.rsplit('.', 1)[-1]}"
        self.families.setdefault(family, set()).add(name)
        return family

    def _layer_family(self, name: str) -> str:
        """The file whose table lists the layer."""
        from importlib import import_module
        from pkgutil import iter_modules

        import coreml_runtime.nn as room

        for module in iter_modules(room.__path__):
            if name in getattr(import_module(f"{room.__name__}.{module.name}"), "LAYERS", {}):
                self.families.setdefault(f"nn.{module.name}", set()).add(f"nn:{name}")
                return module.name
        raise KeyError(name)

    def _wrap(self, kernel: Any, family: str) -> Any:
        @wraps(kernel)
        def mutated(*arguments: Any, **keywords: Any) -> Any:
            value = kernel(*arguments, **keywords)
            return wrong(value) if self.active == family else value

        return mutated

    def _wrap_binder(self, binder: Any, family: str) -> Any:
        def bind(layer: Any) -> Any:
            return self._wrap(binder(layer), family)

        return bind

    def _wrap_prepared(self, prepare: Callable[..., Any], family: str) -> Callable[..., Any]:
        """What makes a kernel for known weights: a pair of it and of something else, or None."""

        def prepared(*arguments: Any) -> Any:
            made = prepare(*arguments)
            return made and (self._wrap(made[0], family), made[1])

        return prepared
