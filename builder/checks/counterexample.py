"""The search for the input on which artifact and original differ most, within what the recipe declares."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from builder.artifacts.stages import Sample
from builder.checks.beside import Judge, Judgement
from builder.checks.domain import Domain, Point, Shapes
from builder.data.sizes import sizes_between
from builder.spec.inputs import TensorInput, shapes_to_try

POOL = 6
"""So many of the worst points are changed further."""
RESTARTS, GRADIENTS = 0.35, 0.15
"""The shares of tries that begin anew, and that follow the gradient from a new point; all others climb."""
OTHER_SIZES = 0.25
"""The share of new points that have other sizes than the captured ones."""
ASCENT, STEP = 8, 0.2
"""Steps along the gradient, and how far each goes, as a share of the input's range."""
SLOPE = 1.5
"""How much longer a step along the gradient takes, the way there and back of the original, than judging an input."""
MOST_TRIES = 20_000


@dataclass(frozen=True, kw_only=True)
class Found:
    """The worst point of a search."""

    point: Point
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search did."""

    worst: Found | None
    """None where the original refused every point."""
    tries: int
    seconds: float


def search(
    judge: Judge,
    known: Sequence[Found],
    seconds: float,
    seed: int,
    *,
    each: float = 0.0,
    most: float | None = None,
) -> Search:
    """Look for `seconds` for the worst point, beginning with `known` ones, and end at once where one misses a limit.

    New points are drawn, the worst so far are changed, and where the original can be differentiated, the gradient is
    followed that makes the values inside of it larger, if there is time for that. All else that is tried depends on
    `seed` alone, how much of it on the time. `each` is how long an input may take. With `most`, `seconds` are of the
    processor, and `most` those of the clock on the wall.
    """
    clock = time.perf_counter if most is None else time.process_time
    began, ends, tries = clock(), time.perf_counter() + (seconds if most is None else most), 0
    hunt = _Hunt(judge, known, seed)
    worst: Found | None = None
    while tries < MOST_TRIES and (left := began + seconds - clock()) > 0 and time.perf_counter() < ends:
        each = (seconds - left) / tries if tries else each
        found = hunt.attempt(hunt.propose(follows=left >= ASCENT * SLOPE * each))
        tries += 1
        if found is None:
            continue
        worst = found if worst is None else min(worst, found, key=_badness)
        if found.judgement.failure:
            break
    return Search(worst=worst, tries=tries, seconds=clock() - began)


class _Hunt:
    """The points so far."""

    def __init__(self, judge: Judge, known: Sequence[Found], seed: int) -> None:
        self._judge = judge
        self._domain = Domain(inputs=judge.subject.spec.artifact_inputs)
        self._generator = np.random.default_rng([seed, 0x5EA])
        self._pool = sorted(known, key=_badness)[:POOL]
        self._shapes = [*shapes_to_try(self._domain.inputs), *sizes_between(self._domain.inputs)]
        floats = [n for n, g in self._domain.inputs.items() if isinstance(g, TensorInput) and g.dtype != "int32"]
        self._floats = [] if judge.subject.prepared.states else floats  # a run would write its graph into the states

    def attempt(self, point: Point) -> Found | None:
        """Judge a point, and keep it if it is among the worst; None where the original refuses it."""
        judgement = self._judge(self._domain.sample(point))
        if judgement.refused:
            return None
        found = Found(point=point, judgement=judgement)
        self._pool = sorted([*self._pool, found], key=_badness)[:POOL]
        return found

    def propose(self, *, follows: bool = True) -> Point:
        """The next point to try; `follows` says whether there is time to follow a gradient."""
        chance = self._generator.random()
        if not self._pool or chance < RESTARTS:
            return self._new()
        if chance < RESTARTS + GRADIENTS and self._floats and follows:
            risen = self._risen(self._new())
            if risen is not None:
                return risen
        chosen = self._pool[min(int(self._generator.exponential(1.5)), len(self._pool) - 1)]
        return self._domain.change(chosen.point, self._generator)

    def _new(self) -> Point:
        shapes: Shapes = self._shapes[0]
        if len(self._shapes) > 1 and self._generator.random() < OTHER_SIZES:
            shapes = self._shapes[int(self._generator.integers(1, len(self._shapes)))]
        return self._domain.draw(shapes, self._generator)

    def _risen(self, point: Point) -> Point | None:
        """The point after some steps along the gradient; None where the original has none."""
        for _ in range(ASCENT):
            slopes = _slopes(self._judge.subject.prepared.uncompressed, self._domain.sample(point), self._floats)
            if slopes is None:
                self._floats = []
                return None
            point = {**point, **{name: self._stepped(name, point[name], slope) for name, slope in slopes.items()}}
        return point

    def _stepped(self, name: str, value: Any, slope: torch.Tensor) -> np.ndarray:
        whole = self._domain.inside(name, np.array([-np.inf, np.inf]))
        reach = float(whole[1]) - float(whole[0])
        largest = float(slope.abs().max()) or 1.0
        direction = (0.5 * slope / largest + 0.5 * slope.sign()).numpy()
        return self._domain.inside(name, value.astype(np.float64) + STEP * reach * direction)


def _badness(found: Found) -> tuple[bool, float]:
    return (not found.judgement.failure, found.judgement.snr_db)


def _slopes(
    module: Callable[..., tuple[torch.Tensor, ...]], sample: Sample, names: Sequence[str]
) -> Mapping[str, torch.Tensor] | None:
    """How the largest value inside of `module` (as a logarithm, summed over its layers) changes with its inputs.

    None where it cannot be differentiated, as what is not PyTorch module, or takes only integers.
    """
    tensors = {
        name: tensor.clone().requires_grad_() if name in names else tensor for name, tensor in sample.tensors.items()
    }
    largest: list[torch.Tensor] = []

    def watch(_: object, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.requires_grad:
            largest.append(torch.log(output.abs().max() + 1e-12))

    with ExitStack() as hooks, torch.enable_grad():
        for layer in module.modules() if isinstance(module, torch.nn.Module) else ():
            if not isinstance(layer, torch.jit.ScriptModule) and not any(True for _ in layer.children()):
                hooks.callback(layer.register_forward_hook(watch).remove)
        try:
            for output in module(*tensors.values()):
                watch(None, None, output)
            if not largest:
                return None
            slopes = torch.autograd.grad(
                torch.stack(largest).sum(), [tensors[name] for name in names], allow_unused=True
            )
        except Exception:  # the user's own code, or an operator without a derivative
            return None
    return {
        name: torch.nan_to_num(slope) for name, slope in zip(names, slopes, strict=True) if slope is not None
    } or None
