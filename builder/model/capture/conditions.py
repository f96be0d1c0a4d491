"""What torch took for true of open sizes while it captured or rewrote a program, held against the sizes themselves.

torch proves conditions by algebra, refuses some that hold at all sizes, and takes some for true that do not:
`min(a, b)` of two sizes is either of them for it where both are alike in the example.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._sympy.printers import PythonPrinter
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

MOST_COMBINATIONS = 2**25
"""Combinations of sizes at which one condition is tried; a million take some 20 ms."""
MOST_EXCEPTIONS = 4096
"""Sizes at which a condition may be false."""
MOST_TRIED = 64
"""Sizes that break a condition and at which the model is called."""
MOST_COMPARED = 16
"""Sizes that break a condition and at which the model gives an answer: the program is compared with it at each."""

Sizes = Mapping[Any, int]
"""By torch's symbol."""
Ranges = Mapping[Any, ValueRanges[Any]]
"""By torch's symbol."""
Places = Mapping[tuple[int, int], Any]
"""torch's symbols by the place of an input among the inputs, and the axis."""
Same = Mapping[Any, Any]
"""A symbol by another."""


@dataclass(frozen=True, kw_only=True)
class Exceptions:
    """Where a condition that the program rests on is false."""

    condition: str
    """In Python, with sizes as the program's inputs have them: `x.shape[1] // 2 <= x.shape[1]`."""
    sizes: Mapping[str, Sizes]
    """Combinations of the sizes in it, by how they are shown."""
    are_all: bool
    """Whether it is true at all others; else there are more than `MOST_EXCEPTIONS`, or too many to try it at."""
    equal: tuple[str, ...] = ()
    """Where the condition is that two sizes are equal: both."""

    def tried(self) -> Mapping[str, Sizes]:
        """The sizes to try: all up to `MOST_TRIED`, else a quarter of that in a row, and others drawn."""
        if len(self.sizes) <= MOST_TRIED:
            return self.sizes
        row, rest = list(self.sizes)[: MOST_TRIED // 4], list(self.sizes)[MOST_TRIED // 4 :]
        chosen = [*row, *random.Random(0).sample(rest, MOST_TRIED - len(row))]
        random.Random(1).shuffle(chosen)  # the first few that are compared are not the smallest
        return {where: self.sizes[where] for where in chosen}

    def spread(self, count: int) -> Exceptions:
        """As many of them, from the first to the last."""
        chosen = [list(self.sizes)[place] for place in np.linspace(0, len(self.sizes) - 1, count).astype(np.int64)]
        return replace(self, sizes={where: self.sizes[where] for where in chosen})

    def shown(self, where: str | None = None) -> str:
        """The condition, and where it is false: at one of the sizes, of which the first is taken unless given."""
        where = where or next(iter(self.sizes), None)
        return f"{self.condition}, which {f'is false for {where}' if where else 'has too many sizes to be tried'}"


def open_sizes(program: ExportedProgram) -> Places:
    """Torch's symbols of the sizes of inputs; read them before a program is rewritten, which takes some for others."""
    values: dict[str, Any] = {
        node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"
    }
    return {
        (place, axis): size.node.expr
        for place, name in enumerate(program.graph_signature.user_inputs)
        if isinstance(value := values.get(name), torch.Tensor)
        for axis, size in enumerate[Any](value.shape)
        if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol
    }


def environment_of(program: ExportedProgram) -> ShapeEnv:
    """What torch knows of the program's sizes; raises ValueError for a program without a tensor."""
    for node in program.graph.nodes:
        if isinstance(value := node.meta.get("val"), FakeTensor) and value.fake_mode.shape_env is not None:
            return value.fake_mode.shape_env
    raise ValueError("the program has no tensors")


def places_of(environment: ShapeEnv) -> Places:
    """Torch's symbols of the sizes of inputs, as export made them of a module that takes `*inputs`.

    Unlike `open_sizes` this has the sizes that torch has since taken for a number, or for another size.
    """
    found = {}
    for symbol, sources in environment.var_to_sources.items():
        for source in sources:
            if place := _PLACE.search(source.name):
                found[int(place["input"]), int(place["axis"])] = symbol
    return found


_PLACE = re.compile(r"\[(?P<input>\d+)\]\.size\(\)\[(?P<axis>\d+)\]$")


def exceptions(
    environment: ShapeEnv,
    places: Places,
    ranges: Ranges,
    names: Sequence[str],
    same: Same | None = None,
    allowed: Sequence[Sizes] = (),
) -> Iterator[Exceptions]:
    """Each condition of a program that does not hold at all sizes of its inputs, which have `names`.

    `ranges` are the sizes that the app may choose; torch narrows its own by what it takes for true. `same` are symbols
    of sizes that are always another's; of enumerated shapes only the `allowed` combinations count. Conditions on
    numbers that values decide, such as how many elements are not zero, are left out.
    """
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    given = [guard.expr for guard in environment.guards]
    given += [each.expr for asserts in environment.deferred_runtime_asserts.values() for each in asserts]
    shown = {symbol: f"{names[place]}.shape[{axis}]" for (place, axis), symbol in places.items()}
    for condition in dict.fromkeys(each.xreplace(dict(same or {})) for each in given):
        found = None if free_unbacked_symbols(condition) else _exceptions(condition, ranges, allowed)
        if found is not None:
            where = [", ".join(f"{shown[symbol]} = {size}" for symbol, size in sizes.items()) for sizes in found]
            equal = tuple(shown[s] for s in condition.args if s in shown) if condition.is_Equality else ()
            yield Exceptions(
                condition=_shown(condition, shown),
                sizes=dict(zip(where, found[:MOST_EXCEPTIONS], strict=False)),
                are_all=0 < len(found) <= MOST_EXCEPTIONS,
                equal=equal if len(equal) == 2 else (),
            )


def drop_conditions(program: ExportedProgram) -> None:
    """Take out assertions on sizes, which each rewriting of a program writes again."""
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def is_always(condition: Any, ranges: Ranges) -> bool:
    """Whether the bounds of sizes alone prove it."""
    try:
        bounds = bound_sympy(condition, dict(ranges))
    except Exception:  # an operator that the bounds are not known of
        return False
    return bool(bounds.is_singleton() and bounds.lower)


def _exceptions(condition: Any, ranges: Ranges, allowed: Sequence[Sizes] = ()) -> list[Sizes] | None:
    """Sizes at which it is false; None where it is true at all, an empty list where that cannot be tried.

    Of more than `MOST_EXCEPTIONS` one more than that, spread over all.
    """
    symbols = sorted(condition.free_symbols, key=str)
    if not set(symbols) <= ranges.keys():
        return []
    if is_always(condition, ranges):
        return None
    holds = _function(condition, symbols)
    if allowed and all(set(symbols) <= sizes.keys() for sizes in allowed):
        chosen = [{symbol: sizes[symbol] for symbol in symbols} for sizes in allowed]
        return [sizes for sizes in chosen if not holds(*map(np.int64, sizes.values()))] or None
    shape = [int(ranges[symbol].upper) - int(ranges[symbol].lower) + 1 for symbol in symbols]
    if math.prod(shape) > MOST_COMBINATIONS:
        return []
    first = np.array([int(ranges[symbol].lower) for symbol in symbols])
    false = []
    try:
        with np.errstate(all="raise"):
            for begin in range(0, math.prod(shape), _AT_ONCE):
                places = np.arange(begin, min(begin + _AT_ONCE, math.prod(shape)))
                sizes = np.stack(np.unravel_index(places, shape)) + first[:, None]
                false.append(sizes[:, ~np.broadcast_to(holds(*sizes), len(places))])
    except Exception:  # a function of torch's without a meaning here, or a division by zero
        return []
    found = np.concatenate(false, axis=1)
    if found.shape[1] > MOST_EXCEPTIONS:
        found = found[:, np.linspace(0, found.shape[1] - 1, MOST_EXCEPTIONS + 1).astype(np.int64)]
    return [dict(zip(symbols, map(int, column), strict=True)) for column in found.T] or None


_AT_ONCE = 2**20


def _function(condition: Any, symbols: Sequence[Any]) -> Callable[..., Any]:
    """The condition as a function of arrays of sizes, int64; floats are float64, as Python's are."""
    names = [_named(symbol, f"size_{index}") for index, symbol in enumerate(symbols)]
    renamed = condition.xreplace(dict(zip(symbols, names, strict=True)))
    text = f"lambda {', '.join(map(str, names))}: {_Arrays().doprint(renamed)}"
    # the text is torch's printing of a sympy expression, with names of ours and nothing of Python's to call
    function: Callable[..., Any] = eval(text, {"__builtins__": {}, **_ARRAYS})
    return function


def _whole(rounding: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda number: rounding(number).astype(np.int64)


_ARRAYS = {
    "abs": np.abs,
    "min": lambda *given: functools.reduce(np.minimum, given),
    "max": lambda *given: functools.reduce(np.maximum, given),
    "round": _whole(np.round),
    "all_of": lambda *given: functools.reduce(np.logical_and, given),
    "any_of": lambda *given: functools.reduce(np.logical_or, given),
    "none_of": np.logical_not,
    "math": SimpleNamespace(trunc=_whole(np.trunc), floor=_whole(np.floor), ceil=_whole(np.ceil), log2=np.log2),
    "torch": SimpleNamespace(sym_float=lambda number: np.asarray(number, dtype=np.float64), _sym_sqrt=np.sqrt),
    "True": np.True_,
    "False": np.False_,
}
"""What torch's printer calls, for arrays."""


def _shown(condition: Any, names: Mapping[Any, str]) -> str:
    named = {symbol: _named(symbol, name) for symbol, name in names.items()}
    return str(_Python().doprint(condition.xreplace(named)))


class _Python(PythonPrinter):
    def _print_Float(self, expr: Any) -> str:  # noqa: N802 - sympy's name for it, which prints all digits
        return repr(float(expr))


class _Arrays(_Python):
    """Python for numpy's arrays, which have no elementwise `and`, `or` and `not`."""

    def _print_And(self, expr: Any) -> str:  # noqa: N802 - as above
        return f"all_of({', '.join(map(self._print, expr.args))})"

    def _print_Or(self, expr: Any) -> str:  # noqa: N802 - as above
        return f"any_of({', '.join(map(self._print, expr.args))})"

    def _print_Not(self, expr: Any) -> str:  # noqa: N802 - as above
        return f"none_of({self._print(expr.args[0])})"


def _named(symbol: Any, name: str) -> Any:
    return type(symbol)(name, integer=True, positive=True)
