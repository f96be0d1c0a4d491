"""Decompositions without what torch repeats for each program: the same graphs, and torch as it was afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._export.utils as utils
from torch import Tensor, nn
from torch._ops import OperatorBase
from torch._subclasses.fake_impls import op_implementations_dict
from torch.export import ExportedProgram

from builder.model.capture import composites
from builder.model.capture.composites import core_decompositions, run_decompositions

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own use of what it deprecates


class Composite(nn.Module):
    """Some operators that torch defines by others, one of them with an own definition below."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return nn.functional.silu(x).diff(), x.rot90(1), nn.functional.linear(x, x), x.unflatten(0, (1, -1))


def exported() -> ExportedProgram:
    return torch.export.export(Composite(), (torch.rand(4, 4),))


def half_of(x: Tensor) -> Tensor:
    return x * 0.5


@pytest.mark.parametrize("table", [{}, {torch.ops.aten.silu.default: half_of}, torch.export.default_decompositions()])
def test_graphs_are_what_torch_makes(table: dict[Any, Any]) -> None:
    # given what torch itself makes of a program
    expected = exported().run_decompositions(dict(table))
    # then the same comes of it here
    assert str(run_decompositions(exported(), table).graph) == str(expected.graph)


def test_graphs_stay_the_same_when_operators_have_the_kernels_of_before() -> None:
    # given programs that were decomposed with one table, another, and the first again
    tables: list[dict[Any, Any]] = [
        {},
        {torch.ops.aten.silu.default: half_of},
        {},
        torch.export.default_decompositions(),
    ]
    for table in tables:
        run_decompositions(exported(), table)
    made, make = [], OperatorBase.py_impl

    def counted(operator: OperatorBase, key: Any) -> Any:
        made.append((operator, key))
        return make(operator, key)

    # when they are decomposed anew
    for table in tables:
        expected = exported().run_decompositions(dict(table))
        before = kernels()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(composites, "_without_evaluated_annotations", lambda _: counted)
            found = run_decompositions(exported(), table)
        # then no kernel is made, the graphs are torch's, and torch is as it was
        assert made == []
        assert str(found.graph) == str(expected.graph)
        assert kernels() == before


def test_an_operator_that_has_another_kernel_since_gets_what_torch_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an operator that got a definition of its own after a program was decomposed
    run_decompositions(exported(), {})
    operator, key = torch.ops.aten.diff.default, torch._C.DispatchKey.CompositeImplicitAutograd
    monkeypatch.setitem(operator.py_kernels, key, half_of)
    seen: list[dict[Any, Any]] = []

    def looking(x: Tensor) -> Tensor:
        seen.append(dict(operator.py_kernels))
        return x

    for decompose in (ExportedProgram.run_decompositions, run_decompositions):
        decompose(exported(), {torch.ops.aten.silu.default: looking})
    # then its kernels while a program is decomposed are of that definition
    of_torch, ours = seen[0], seen[-1]
    backend = torch._C.DispatchKey.CPU
    assert of_torch[backend] is half_of
    assert ours[backend] is half_of


def kernels() -> dict[Any, Any]:
    """What operators have of their own in this process."""
    operators = utils._collect_all_valid_cia_ops()
    return {operator: (dict(operator.py_kernels), operator in op_implementations_dict) for operator in operators}


def test_operators_are_looked_up_once_and_torch_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a count of how often torch looks its operators up
    looked, look = [], utils._materialize_cpp_cia_ops
    monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", counted := lambda: looked.append(look()))
    exported().run_decompositions({})
    often = len(looked)
    looked.clear()
    # when a program is decomposed, and when that fails
    seen: list[object] = []

    def failing(x: Tensor) -> Tensor:
        seen.append(OperatorBase.py_impl)
        raise ZeroDivisionError

    before = OperatorBase.py_impl
    run_decompositions(exported(), {})
    # then it looks once, and nothing stays replaced
    assert len(looked) == 1 < often
    with pytest.raises(ZeroDivisionError):
        run_decompositions(exported(), {torch.ops.aten.silu.default: failing})
    assert seen
    assert seen[0] is not before
    assert OperatorBase.py_impl is before
    assert utils._materialize_cpp_cia_ops is counted


def test_the_core_definitions_are_torchs_and_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given torch's own table, which looks operators up when it is first asked for one
    expected = dict(torch.export.default_decompositions().items())
    looked, look = [], utils._materialize_cpp_cia_ops
    monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", lambda: looked.append(look()))
    # when we make it
    found = core_decompositions()
    # then it has the same operators, defined by the same functions, after one look
    assert len(looked) == 1
    assert found.keys() == expected.keys()
    assert found[torch.ops.aten.silu.default] is expected[torch.ops.aten.silu.default]
