"""Decompositions of operators and exported programs, without what torch does anew each time though it is known.

While it decomposes one, torch gives a dozen kernels to each of the 450 operators that it defines by others, and
evaluates annotations with each; and it looks all such operators up once for each namespace, for a table of
decompositions too. That took 0.1 s. An operator gets the kernels again that were made for it the first time.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
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
    import torch.export.exported_program as exported_program
    from torch._ops import OperatorBase

    names: dict[tuple[Any, str], Callable[..., Any]] = {
        (utils, "_materialize_cpp_cia_ops"): cache(utils._materialize_cpp_cia_ops),
        (OperatorBase, "py_impl"): _without_evaluated_annotations(OperatorBase.py_impl),
        (exported_program, "_override_composite_implicit_decomp"): _with_kernels_of_before(
            exported_program._override_composite_implicit_decomp
        ),
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


@dataclass(frozen=True, kw_only=True)
class _Kernels:
    """What torch gave to an operator while it decomposed a program."""

    before: Mapping[Any, object]
    """The kernels that it had; with others torch gives it others."""
    given: Mapping[Any, object]
    """Those that it had then."""
    fake: Callable[..., object]
    """What computes it on tensors without data."""


_KNOWN: dict[OpOverload, _Kernels] = {}
"""By operator, in this process; those for which tensors without data have a rule already are not here."""

_Override = Callable[[Mapping[Any, Callable[..., object]]], AbstractContextManager[None]]


def _with_kernels_of_before(override: _Override) -> _Override:
    """The same context manager of torch, that gives operators the kernels that it made for them the first time."""
    from torch._C import DispatchKey
    from torch._subclasses.fake_impls import op_implementations_dict

    def has_known(operator: OpOverload) -> bool:
        known = _KNOWN.get(operator)
        return known is not None and operator not in op_implementations_dict and known.before == operator.py_kernels

    @contextmanager
    def overriding(functions: Mapping[Any, Callable[..., object]]) -> Iterator[None]:
        before = {operator: dict(operator.py_kernels) for operator in functions}
        again = {operator: _KNOWN[operator] for operator in functions if has_known(operator)}
        anew = {operator: function for operator, function in functions.items() if operator not in again}
        without_rule = [operator for operator in anew if operator not in op_implementations_dict]
        with override(anew):
            for operator in without_rule:
                _KNOWN[operator] = _Kernels(
                    before=before[operator],
                    given=dict(operator.py_kernels),
                    fake=op_implementations_dict[operator],
                )
            try:
                for operator, known in again.items():
                    kernels = {**known.given, DispatchKey.CompositeImplicitAutograd: functions[operator]}
                    _give(operator, kernels)
                    op_implementations_dict[operator] = known.fake
                yield
            finally:
                for operator in again:
                    _give(operator, before[operator])
                    op_implementations_dict.pop(operator, None)

    return overriding


def _give(operator: OpOverload, kernels: Mapping[Any, object]) -> None:
    operator.py_kernels.clear()
    operator.py_kernels.update(kernels)
    operator._dispatch_cache.clear()
