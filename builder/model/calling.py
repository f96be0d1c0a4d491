"""How a model takes its inputs: constants among them, by name where every input is a parameter of forward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from builder.spec.coverage import is_binary
from builder.spec.inputs import ConstantInput, ImageInput, Input, TensorInput
from builder.util.bounded import bounded

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

Number = bool | int | float


class Arguments:
    """All that a model takes, made of what the app gives: scalars of their rank, and the constants of the recipe."""

    def __init__(self, inputs: Mapping[str, Input]) -> None:
        """`inputs` are the recipe's."""
        self.names = tuple(given.source_name or name for name, given in inputs.items())
        """What the model itself calls them, in the recipe's order."""
        self._inputs = tuple(inputs.values())
        self._is_wide = self._is_boolean = False
        self._constants = {
            i: constant_value(given) for i, given in enumerate(self._inputs) if isinstance(given, ConstantInput)
        }

    @property
    def may_widen(self) -> bool:
        """Whether there are integers that could be given in 64 bits, and are not."""
        return not self._is_wide and any(
            isinstance(given, TensorInput) and given.dtype == "int32" for given in self._inputs
        )

    def widen(self, *, to: bool = True) -> None:
        """Give the model integers as int64, which Core ML does not have: torch's `gather` takes no other."""
        self._is_wide = to

    @property
    def may_be_boolean(self) -> bool:
        """Whether there are integers of 0 and 1 alone that could be given as booleans, and are not."""
        return not self._is_boolean and any(
            isinstance(given, TensorInput) and is_binary(given) and not given.booleans for given in self._inputs
        )

    def as_booleans(self, *, to: bool = True) -> None:
        """Give the model booleans for integers of 0 and 1, as masks of attention are."""
        self._is_boolean = to

    def of(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        """The arguments in the order of `names`, of one tensor for each input that the artifact has.

        The app gives a scalar as an array of shape (1,); constants are tensors, or numbers of Python.
        """
        given = iter(tensors)
        return [
            self._constants[i] if isinstance(declared, ConstantInput) else self._as_declared(next(given), declared)
            for i, declared in enumerate(self._inputs)
        ]

    def _as_declared(self, tensor: torch.Tensor, declared: ImageInput | TensorInput) -> torch.Tensor:
        if isinstance(declared, TensorInput) and (declared.booleans or (self._is_boolean and is_binary(declared))):
            tensor = tensor != 0
        elif self._is_wide and tensor.dtype == torch.int32:
            tensor = tensor.long()
        return tensor if declared.shape else tensor.squeeze(0)


def constant_value(given: ConstantInput) -> torch.Tensor | Number:
    """A plain number for a number without a dtype; else a tensor, of float32, int64 or bool unless it says another."""
    if given.dtype is None and not isinstance(given.constant, list):
        return given.constant
    return torch.tensor(given.constant, dtype=None if given.dtype is None else getattr(torch, given.dtype))


def call_model(module: torch.nn.Module, names: Sequence[str], inputs: Sequence[object]) -> Any:
    """Return what `module` returns for `inputs`, which it calls `names`.

    Where every name is a parameter of forward they are passed as keyword arguments, so their order in the recipe does
    not matter; otherwise (`image` for a parameter `x`) all are passed by position.
    """
    if isinstance(module, torch.jit.ScriptModule):
        with bounded("the TorchScript program"):
            return _called(module, names, inputs)
    return _called(module, names, inputs)


def _called(module: torch.nn.Module, names: Sequence[str], inputs: Sequence[object]) -> Any:
    if set(names) <= set(parameter_names(module)):
        return module(**dict(zip(names, inputs, strict=True)))
    return module(*inputs)


def parameter_names(module: torch.nn.Module) -> tuple[str, ...]:
    """The parameters of forward that can be passed by name; none where they cannot be told."""
    if isinstance(module, torch.jit.ScriptModule):
        forward: Any = module.forward
        return tuple(argument.name for argument in forward.schema.arguments[1:])
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind in _NAMED)
