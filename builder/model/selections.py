"""Which of values that nearly tie is taken: operators that select by value, made to see values that are a little other.

Scores that an artifact computes in half precision are right with an SNR of 30 dB, so it may take another one of two
that differ by less. What a model returns where these are told apart otherwise is not an error of the artifact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from torch._ops import OpOverload

aten = torch.ops.aten

SHARE = {True: 10 ** (-30 / 20), False: 10 ** (-80 / 20)}
"""By how much values move, as a share of their standard deviation along the axis: 30 dB in half precision, and 80 in
float32, as outputs of floats may be off."""

_INDICES = (aten.argmax.default, aten.argmin.default)
_BOTH = (
    aten.topk.default, aten.sort.default, aten.sort.stable, aten.max.dim, aten.min.dim, aten.median.dim,
    aten.kthvalue.default,
)  # fmt: skip
"""They return values and indices."""
_COMPARISONS = tuple(
    getattr(getattr(aten, name), kind) for name in ("gt", "ge", "lt", "le") for kind in ("Scalar", "Tensor")
)
_DIMENSION = {"argmax": 1, "argmin": 1, "topk": 2, "sort": 1, "max": 1, "min": 1, "median": 1, "kthvalue": 2}
"""The place of the axis among the arguments."""


class Selections(TorchDispatchMode):
    """Within it, what argmax, topk, sort and comparisons of floats see is moved.

    Upwards along the axis for seed 0 and downwards for seed 1, so that of two equal values each comes first once; at
    random for other seeds.
    """

    def __init__(self, seed: int, *, half: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self._seed, self._generator = seed, torch.Generator().manual_seed(seed)
        self._share = SHARE[half]
        self.count = 0
        """How many operators selected something."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip it, torch imports all of `torch._dynamo` (a second), and nothing here is compiled."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, object] | None = None
    ) -> Any:
        """Run an operator, on other values where it selects."""
        del types
        given = dict(kwargs or {})
        if func not in (*_INDICES, *_BOTH, *_COMPARISONS) or not args[0].is_floating_point():
            return func(*args, **given)
        self.count += 1
        values, rest = args[0], args[1:]
        if func in _COMPARISONS:
            return func(self._moved(values, None), *rest, **given)
        dimension = _dimension(func, args, given)
        found = func(self._moved(values, dimension), *rest, **given)
        if func in _INDICES:
            return found
        keeps = found[1].ndim == values.ndim
        indices = found[1] if keeps else found[1].unsqueeze(dimension)
        chosen = values.gather(dimension, indices) if values.ndim else values.clone()
        return chosen if keeps else chosen.squeeze(dimension), found[1]

    def _moved(self, values: torch.Tensor, dimension: int | None) -> torch.Tensor:
        if values.numel() < 2:
            return values
        finite = torch.where(values.isfinite(), values, 0.0)
        spread = finite.std() if dimension is None else finite.std(dimension, correction=0, keepdim=True)
        least = 2 * torch.finfo(torch.float32).eps * finite.abs() + 1e-30  # tells equal ones apart
        return values + (self._share * spread + least) * self._moves(values, dimension).to(values.dtype)

    def _moves(self, values: torch.Tensor, dimension: int | None) -> torch.Tensor:
        """What values are moved by, in units of the largest move of seeds 0 and 1."""
        if self._seed > 1:
            return torch.randn(values.shape, generator=self._generator)
        axis = 0 if dimension is None else dimension % values.ndim
        along = values if dimension is not None else values.flatten()
        ramp = torch.arange(1, along.shape[axis] + 1) / along.shape[axis] * (1 if self._seed == 0 else -1)
        return ramp.reshape(-1, *[1] * (along.ndim - 1 - axis)).expand(along.shape).reshape(values.shape)


def _dimension(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> Any:
    place = _DIMENSION[func.overloadpacket.__name__]
    default = None if func in _INDICES else -1
    return kwargs.get("dim", args[place] if len(args) > place else default)
