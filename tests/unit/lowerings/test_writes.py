"""Writes in place, by the graphs that they become and by what the artifact computes."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from builder.backends.coreml.lowerings.memory import Memory
from builder.backends.coreml.lowerings.views import all_nodes, plain_name
from builder.backends.coreml.lowerings.writes import mark_copies, rewrite_writes
from tests.unit.lowerings.agreement import CASES, Case, Draw, agree, floats, integers, ways

PROGRAMS = 20 * CASES


class Function(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


def traced(function: Callable[..., object], *inputs: Tensor) -> torch.jit.ScriptModule:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing itself
        return torch.jit.trace(Function(function), inputs, check_trace=False)


def run(program: torch.jit.ScriptModule, graph: torch.Graph, *inputs: Tensor) -> object:
    return torch._C._create_function_from_graph("forward", graph)(program._c, *inputs)


VIEWS: dict[str, Callable[[Tensor, random.Random], Tensor]] = {
    "slice": lambda v, r: v[r.randrange(v.shape[0]) :] if v.dim() else v.view(1),
    "strided": lambda v, r: v[..., :: r.randint(1, 3)] if v.dim() else v.view(1),
    "narrow": lambda v, r: v.narrow(-1, r.randrange(v.shape[-1]), 1) if v.dim() else v.view(1),
    "select": lambda v, r: v.select(r.randrange(-v.dim(), v.dim()), -1) if v.dim() else v.view(1),
    "turned": lambda v, r: v.transpose(0, -1) if v.dim() else v.view(1),
    "ordered": lambda v, r: v.permute(r.sample(range(v.dim()), v.dim())),
    "flat": lambda v, r: v.reshape(-1),
    "added": lambda v, r: v.unsqueeze(r.randint(0, v.dim())),
    "removed": lambda v, r: v.squeeze(),
    "diagonal": lambda v, r: v.diagonal() if v.dim() > 1 else v.detach(),
    "part": lambda v, r: r.choice(v.chunk(2, -1)) if v.dim() else v.view(1),
    "row": lambda v, r: r.choice(v.unbind(0)) if v.dim() else v.view(1),
    "near": lambda v, r: v.contiguous(),
}
WRITES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mul": lambda v, other: v.mul_(2),
    "add": lambda v, other: v.add_(other.sum()),
    "fill": lambda v, other: v.fill_(3),
    "zero": lambda v, other: v.zero_(),
    "copy": lambda v, other: v.copy_(other.mean()),
    "clamp": lambda v, other: v.clamp_(-1, 1),
    "mask": lambda v, other: v.masked_fill_(v > 1, 0.5),
}


def drawn_program(seed: int) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Views of views, writes into some of them, and looks at others afterwards; the same for the same seed."""

    def program(x: Tensor) -> tuple[Tensor, ...]:
        rng = random.Random(seed)
        tensors, seen = [x * 1], []
        for _ in range(rng.randint(4, 12)):
            tensor = rng.choice(tensors)
            match rng.choice(["view", "view", "write", "look"]):
                case "view":
                    tensors.append(VIEWS[rng.choice(list(VIEWS))](tensor, rng))
                case "write":
                    written = WRITES[rng.choice(list(WRITES))](tensor, rng.choice(tensors))
                    tensors.append(written) if rng.random() < 0.3 else None
                case "look":
                    seen.append(tensor * 1)
        return (*seen, *(tensor + 1 for tensor in tensors))

    return program


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_a_rewritten_graph_computes_the_same_and_writes_nothing(seed: int) -> None:
    # given a program of views and writes, and what torch makes of it
    program = drawn_program(seed)
    x = torch.randn(2, 3, 4)
    expected = program(x)
    # when its trace is rewritten
    module = traced(program, x)
    mark_copies(module)
    graph = module.inlined_graph
    rewritten = rewrite_writes(graph)
    # then it gives the same, and what was rewritten wrote into nothing
    assert not Memory(graph, typed=True).lost()
    graph.lint()
    given = x.clone()
    for found, wanted in zip(run(module, graph, given), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    left = [node for node in all_nodes(graph) if plain_name(node) in {f"{name}_" for name in rewritten}]
    assert not Memory(graph).to_rewrite()
    assert all(not Memory(graph).told(node) or plain_name(node) in ("copy_", "fill_") for node in left)


def _with_copy(x: Tensor) -> Tensor:
    return x * 1


def slices(rng: random.Random) -> Case:
    c = rng.randint(4, 8)
    a, b = sorted(rng.sample(range(c + 1), 2))

    def write(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        p, q, r, s, t = (_with_copy(x) for _ in range(5))
        p[:, a:b] = y[:, a:b]
        q[..., 0] += 1
        q[:, -1] = 2
        r[:, ::2].mul_(2)
        r.narrow(1, a, b - a).copy_(y.narrow(1, 0, b - a))
        s[:, 1:][:, :2].add_(y[:, :2])
        s[1].zero_()
        t[1:, 1:3] = 7.0
        t[:2, 1:3].clamp_(-0.1, 0.1)
        return p, q, r, s, t

    return write, (floats(rng, 3, c), floats(rng, 3, c))


def other_views(rng: random.Random) -> Case:
    c = 2 * rng.randint(2, 3)

    def write(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        p, q, r, s, t = (_with_copy(x) for _ in range(5))
        p.t()[1:3] = 1.5
        p.view(-1)[3:5] += 2
        first, second = q.chunk(2, 1)
        first.mul_(3)
        second.add_(first)
        for index, row in enumerate(r.unbind(0)):
            row.mul_(index)
        early = s[:, 0:2]
        s.mul_(3)
        t.diagonal().fill_(9)
        t[:, :2].diagonal().mul_(2)
        return p, q, r, early + 1, t, t.diagonal(-1) * y.diagonal(1)[:2].sum()

    return write, (floats(rng, 3, c), floats(rng, 3, c))


def indices(rng: random.Random) -> Case:
    c = rng.randint(4, 6)

    def write(x: Tensor, y: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        p, q, r, s, u = (_with_copy(x) for _ in range(5))
        p[:, [0, 3]] = y[:, [1, 2]]
        p[:, [1, -1]] += 2
        q[torch.tensor([[0], [2]]), torch.tensor([1, 2])] = 4.0
        q.index_copy_(1, torch.tensor([0, 2]), y[:, :2])
        r[i.long(), 1] = 0.5
        r[:, i.long()] = y[:, :2]
        s.index_add_(1, torch.tensor([1, 1]), y[:, :2], alpha=2)
        s.fill_diagonal_(5.0)
        u[:, torch.tensor([True, False, True, *([False] * (c - 3))])] = y[:, :1]
        return p, q, r, s, u

    return write, (floats(rng, 3, c), floats(rng, 3, c), integers(rng, 2, low=0, high=3))


def masks(rng: random.Random) -> Case:
    c = rng.randint(3, 6)

    def write(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        p, q, r, s = (_with_copy(x) for _ in range(4))
        p[p > 0.5] = 0.25
        q[:, 1:3][y[:, 1:3] > 0] = 0.0
        r[y[:, 0] > 0] = y[0]
        s[:, y[0] > 0] = 3.0
        flags = torch.ones_like(x, dtype=torch.bool)
        flags[:, 1:2] = False
        flags[:, 2:] &= y[:, 2:] > 0
        counts = torch.zeros(3, c, dtype=torch.long)
        counts[:, 1:3] = 3
        return p, q, r, s, flags, counts + x.int()

    return write, (floats(rng, 3, c), floats(rng, 3, c))


@ways(slices, other_views, indices, masks)
@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_writes_agree_with_torch(draw: Draw, method: str, half: bool, target: str, tmp_path: Path) -> None:
    agree(
        draw, method=method, half=half and target != "iOS15", folder=tmp_path, count=max(1, CASES // 3), target=target
    )


def chosen_row(rng: random.Random) -> Case:
    def write(x: Tensor, i: Tensor) -> Tensor:
        y = _with_copy(x)
        y[i.long()[0]] = -1.0
        return y

    return write, (floats(rng, 3, 4), integers(rng, 2, low=0, high=3))


def test_a_row_that_the_input_chooses_is_filled(tmp_path: Path) -> None:
    agree(chosen_row, method="trace", half=False, folder=tmp_path, count=2)


def test_a_write_in_a_branch_is_lost_and_told() -> None:
    def halved(x: Tensor) -> Tensor:
        y = x * 1
        if bool(x.sum() > 0):
            y[0] *= 0.5
        return y

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of compiling itself
        lost = Memory(torch.jit.script(halved).graph).lost()
    assert lost
    assert all("branch or loop" in why for _, why in lost)


def test_what_nobody_reads_by_another_name_stays_as_it_is() -> None:
    module = traced(lambda x: nn.functional.relu(x * 2, inplace=True) + 1, torch.randn(3))
    graph = module.inlined_graph
    assert rewrite_writes(graph) == []
    assert "aten::relu_" in str(graph)


def test_a_tensor_given_as_out_is_told() -> None:
    def product(x: Tensor) -> Tensor:
        out = torch.zeros(3, 3)
        torch.matmul(x, x.t(), out=out[:, :])
        return out

    assert [why for _, why in Memory(traced(product, torch.randn(3, 4)).inlined_graph).lost()]
