"""A loaded network as a module whose parts are the operators of the file: what `torch.export` is given."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from coreml_runtime.export.folding import Folding
from coreml_runtime.ops.table import Value

Run = Callable[[dict[str, Value], dict[str, Tensor], Callable[[str, Callable[[], None]], None]], dict[str, Value]]
"""Executes a network on inputs and states by name, each operator through its last argument."""


def identifier(name: str) -> str:
    """A name of a file as one of Python's."""
    plain = re.sub(r"\W", "_", name) or "_"
    return f"_{plain}" if plain[0].isdigit() or keyword.iskeyword(plain) else plain


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """An identifier of its own for each name."""
    used, found = set(taken), dict[str, str]()
    for name in names:
        base = identifier(name)
        number, chosen = 1, base
        while chosen in used:
            chosen, number = f"{base}_{number}", number + 1
        used.add(chosen)
        found.setdefault(name, chosen)
    return found


class Operator(torch.nn.Module):
    """One operator of the file: all that it does is traced inside of it, so that its name is in the program."""

    def forward(self, run: Callable[[], None]) -> None:
        """Do it."""
        run()


class NetworkModule(torch.nn.Module):
    """Takes tensors in the order of the file's inputs, returns a dictionary of the chosen outputs."""

    def __init__(
        self, run: Run, operators: Sequence[str], states: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> None:
        super().__init__()
        self._run, self._outputs = run, tuple(outputs)
        self.state_paths = unique(states, taken=dir(self))
        for name, path in self.state_paths.items():
            self.register_buffer(path, states[name])
        self.paths = unique(operators, taken=dir(torch.nn.ModuleDict))
        self.operators = torch.nn.ModuleDict({path: Operator() for path in self.paths.values()})

    def execute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The chosen outputs by name."""
        states = {name: getattr(self, path) for name, path in self.state_paths.items()}
        with Folding():
            values = self._run(dict(inputs), states, self._around)
        return {name: _whole(values[name]) for name in self._outputs}

    def _around(self, name: str, run: Callable[[], None]) -> None:
        getattr(self.operators, self.paths[name])(run)


def _whole(value: object) -> Tensor:
    """An output as Core ML gives it: of rank 1 at least."""
    tensor: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    return tensor if tensor.dim() else tensor.reshape(1)


def module_of(
    run: Run, names: Sequence[str], operators: Sequence[str], states: Mapping[str, Tensor], outputs: Sequence[str]
) -> NetworkModule:
    """The module, whose `forward` takes the inputs under their names."""
    arguments = unique(names, taken=["self"])

    def forward(self: NetworkModule, *values: Tensor) -> dict[str, Tensor]:
        return self.execute(dict(zip(names, values, strict=True)))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # functions have it, and torch reads it
        [inspect.Parameter(name, kind) for name in ("self", *arguments.values())]
    )
    made: type[NetworkModule] = type("Network", (NetworkModule,), {"forward": forward})
    return made(run, operators, states, outputs).eval()
