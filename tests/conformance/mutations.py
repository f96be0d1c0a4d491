"""Wrong kernels on purpose: while a family is active, everything that its operators or layers return is off."""

from collections.abc import Iterable
from functools import wraps
from typing import Any

import torch

from builder.runtime.nn import layers
from builder.runtime.ops import operators


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
            layers()[name] = self._wrap_binder(binder, f"nn.{self._layer_family(name)}", name)

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

        import builder.runtime.nn as room

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

    def _wrap_binder(self, binder: Any, family: str, name: str) -> Any:
        def bind(layer: Any) -> Any:
            return self._wrap(binder(layer), family)

        return bind
