"""What an artifact costs to compute: operations and bytes of each operator, counted from its program alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OPERATIONS_OF_A_MAC = 2
"""A multiplication and an addition."""


@dataclass(frozen=True, kw_only=True)
class OperatorCost:
    """One operator, at the default sizes of the inputs. Bytes are those that it moves once in one execution."""

    name: str
    """Of its first output, or of a neural network's layer."""
    operator: str
    macs: int | None
    """Multiply-accumulates of one execution; None where a shape, and so the number, is not known."""
    weights_stored: int
    """Bytes of its constants as the file has them; of a constant that others use too, all of it."""
    weights_computed: int
    """Bytes of them as it computes with them, decompressed."""
    read: int
    """Bytes of the activations that it reads."""
    written: int
    """Bytes of its outputs; 0 where it only gives what it reads another shape."""
    times: int = 1
    """How often it is executed: more than once in a loop whose turns the program says."""
    module: str = ""
    """The path of its PyTorch module, empty where that is not known."""

    @property
    def total(self) -> int:
        """Multiply-accumulates of all executions; what is not known counts as 0."""
        return self.times * (self.macs or 0)

    @property
    def moved(self) -> int:
        """Bytes that one execution reads and writes, weights as stored."""
        return self.weights_stored + self.read + self.written

    @property
    def intensity(self) -> float | None:
        """Operations (two a multiply-accumulate) per byte moved; None where nothing is counted."""
        return OPERATIONS_OF_A_MAC * self.macs / self.moved if self.macs and self.moved else None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one function of an artifact costs. All that is here follows from the program; nothing was executed."""

    function: str = ""
    sizes: tuple[str, ...] = ()
    """Of flexible inputs, the size that is counted with: `tokens: 1 x 64`."""
    macs: int = 0
    weights_stored: int = 0
    """Bytes of all constants that operators compute with, each once."""
    weights_computed: int = 0
    activations: int = 0
    """Bytes of the inputs and of all that operators write, each once."""
    peak: int = 0
    """Bytes of inputs and activations that are needed at the same time, at the best order of operators found."""
    peak_in_file_order: int = 0
    peak_is_least: bool = False
    """Whether no order needs less."""
    states: int = 0
    """Bytes of states, which outlive a prediction."""
    operators: tuple[OperatorCost, ...] = ()
    unknown: int = 0
    """Operators whose cost is not known: shapes that values decide, layers of an app's own."""
    open_loops: int = 0
    """Loops whose number of turns the inputs decide: they are counted with one turn."""
    clear_share: float | None = None
    """The share of all multiply-accumulates in operators that no rule of the lint names; None where nothing says."""
    not_counted: str = ""
    """Why nothing of this is known, where it is not."""

    @property
    def intensity(self) -> float | None:
        """Operations per byte that all operators together move; None where nothing is counted."""
        moved = sum(each.times * each.moved for each in self.operators)
        return OPERATIONS_OF_A_MAC * self.macs / moved if self.macs and moved else None


def costs_of(stored: Mapping[str, Any]) -> Costs:
    """From plain values, as `build.json` has them."""
    operators = tuple(OperatorCost(**_fields(OperatorCost, each)) for each in stored["operators"])
    return Costs(**{**_fields(Costs, stored), "sizes": tuple(stored["sizes"]), "operators": operators})


def _fields(type_: Any, stored: Mapping[str, object]) -> dict[str, Any]:
    """Without what follows from the others."""
    return {name: stored[name] for name in type_.__dataclass_fields__ if name in stored}


def figures(costs: Mapping[str, object] | Costs) -> dict[str, float]:
    """The numbers of a whole function by name, for tables and tracking; `costs` may be plain values of `build.json`."""
    found = costs if isinstance(costs, Costs) else costs_of(costs)
    if found.not_counted:
        return {}
    named = {
        "macs": found.macs,
        "weights_stored_bytes": found.weights_stored,
        "weights_computed_bytes": found.weights_computed,
        "activations_bytes": found.activations,
        "peak_bytes": found.peak,
        "intensity": found.intensity,
        "clear_share": found.clear_share,
    }
    prefix = f"{found.function}." if found.function else ""
    return {f"{prefix}{name}": float(value) for name, value in named.items() if value is not None}
