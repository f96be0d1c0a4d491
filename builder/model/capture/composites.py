"""Decompositions of operators and exported programs, without what torch does anew each time though it is known.

While it decomposes one, torch gives a dozen kernels to each of the 450 operators that it defines by others, and
evaluates annotations with each; and it looks all such operators up once for each namespace, for a table of
decompositions too. That took 0.1 s.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch._ops import OperatorBase, OpOverload
    from torch.export import ExportedProgram

_LOCK = threading.RLock()
"""What is replaced belongs to the process."""


def run_decompositions(program: ExportedProgram, table: Mapping[OpOverload, Callable[..., object]]) -> ExportedProgram:
    """`program.run_decompositions(table)`; with an empty table, into the operators that coremltools takes."""
    with _prepared_once():
        decomposed: ExportedProgram = program.run_decompositions(dict(table))
        return decomposed


def core_decompositions() -> Mapping[OperatorBase, Callable[..., Any]]:
    """Torch's definitions of operators by the core ones: `torch.export.default_decompositions()`, with every entry."""
    import torch

    with _prepared_once():
        found: dict[OperatorBase, Callable[..., Any]] = torch.export.default_decompositions().materialize()
        return found


@contextmanager
def _prepared_once() -> Iterator[None]:
    """Let operators be looked up once, and kernels be registered without evaluating annotations."""
    import torch._export.utils as utils
    from torch._ops import OperatorBase

    names: dict[tuple[Any, str], Callable[..., Any]] = {
        (utils, "_materialize_cpp_cia_ops"): cache(utils._materialize_cpp_cia_ops),
        (OperatorBase, "py_impl"): _without_evaluated_annotations(OperatorBase.py_impl),
    }
    with _LOCK:
        before = {(owner, name): vars(owner)[name] for owner, name in names}
        try:
            for (owner, name), function in names.items():
                setattr(owner, name, function)
            yield
        finally:
            for (owner, name), function in before.items():
                setattr(owner, name, function)


@cache
def _without_evaluated_annotations(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of a module, from its source, as `from __future__ import annotations` makes it."""
    source, flags = textwrap.dedent(inspect.getsource(function)), __future__.annotations.compiler_flag
    made: dict[str, Any] = {}
    exec(compile(source, inspect.getfile(function), "exec", flags=flags), vars(inspect.getmodule(function)), made)
    return made[function.__name__]  # type: ignore[no-any-return]  # what was executed has no types
