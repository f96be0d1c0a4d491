"""Operators at the values that random inputs never hit: NaN, infinities, zeros of either sign, tiny, huge.

The truth is torch's own answer. Left out is where torch's answer is an accident of its own formula: `hardswish(-inf)`
and `gelu(inf)` are NaN by `inf * 0`, sums and squares of 3e38 overflow on another way, a quotient of 1e20 and 1e-30 has
no remainder in torch. The sign of a zero that comes out is compared by no case but those that divide by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

Case = Callable[..., Tensor]
INF, NAN = math.inf, math.nan
VALUES = torch.tensor(
    [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -3.0, 7.25, -20.0, 100.0, 3e38, -3e38]
)
MODEST = torch.where(VALUES.abs() < 1000, VALUES, torch.where(VALUES.abs() < INF, 4.0, VALUES))
"""The same without the huge ones."""
FIRST, SECOND = (each.reshape(-1).clone() for each in torch.meshgrid(VALUES, MODEST, indexing="ij"))
"""Each of the values with each."""
ROWS = torch.tensor([[1.0, NAN, 2.0], [NAN, 3.0, NAN], [INF, 1.0, -INF], [-INF, -INF, -INF], [INF, INF, 1.0],
                     [0.0, -0.0, 0.0], [1.0, 1.0, 1.0], [-2.0, 5.0, 5.0], [-1.0, -INF, -3.0]])  # fmt: skip
_WHOLE = torch.tensor([0, 1, -1, 2, -3, 7, 100, -100, 2**24 + 1, 2**31 - 1, 1 - 2**31], dtype=torch.int32)
WHOLE, OTHER = (each.reshape(-1).clone() for each in torch.meshgrid(_WHOLE, _WHOLE, indexing="ij"))
_EDGES = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.5])


def _divisor(x: Tensor) -> Tensor:
    return torch.where(x == 0, 3, x)


def _named(*operators: Case) -> dict[str, Case]:
    return {operator.__name__: operator for operator in operators}


ALL_VALUES: Mapping[str, Case] = {
    **_named(
        torch.abs, torch.neg, torch.frac, torch.sign, torch.ceil, torch.floor, torch.round, torch.trunc, torch.sqrt,
        torch.reciprocal, torch.exp, torch.log, torch.log2, torch.log10, torch.log1p, torch.expm1, torch.sigmoid,
        torch.tanh, torch.atan, torch.erf, torch.asin, torch.acos, torch.asinh, torch.acosh, torch.isnan, torch.isinf,
        torch.isfinite, torch.isposinf, torch.isneginf, torch.signbit, torch.logical_not, torch.nan_to_num,
        F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.silu, F.softplus, F.softsign, F.hardshrink,
        F.softshrink, F.hardsigmoid, F.hardtanh, F.logsigmoid,
    ),
    "hardtanh up to inf": lambda x: F.hardtanh(x, -1.0, INF),
    "hardtanh from -inf": lambda x: F.hardtanh(x, -INF, 1.0),
    "threshold": lambda x: F.threshold(x, 0.5, 2.0),
    "threshold to -inf": lambda x: F.threshold(x, 0.5, -INF),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.25])),
    "clamp": lambda x: x.clamp(-1, 2),
    "at least": lambda x: x.clamp(min=0),
    "at most": lambda x: x.clamp(max=0),
    "at least a tensor": lambda x: x.clamp(min=torch.tensor(0.0)),
    "clamp_min": lambda x: torch.clamp_min(x, -0.5),
    "clamp_max": lambda x: torch.clamp_max(x, 0.5),
    "no limits": lambda x: x.clamp(-INF, INF),
    "below 1 alone": lambda x: x.clamp(-INF, 1.0),
    "nan_to_num of three": lambda x: torch.nan_to_num(x, 3.0, 9.0, -9.0),
    "bool": lambda x: x.bool().float(),
    "not itself": lambda x: x != x,
    "comparisons": lambda x: (x > 0).int() + 2 * (x >= 0) + 4 * (x < 0) + 8 * (x <= 0) + 16 * (x == 0) + 32 * (x != 0),
    "comparisons with inf": lambda x: (x == INF).int() + 2 * (x == -INF) + 4 * (x < INF) + 8 * (x >= -INF),
    "where": lambda x: torch.where(x > 0, x, NAN),
    "where not": lambda x: torch.where(x <= 0, -INF, x),
    "masked_fill": lambda x: x.masked_fill(x >= 0, -INF),
    "with infinity": lambda x: torch.stack([x + INF, x * INF, x * 0, x / x, x / 0.0, 1.0 / x]),
    "powers": lambda x: torch.stack([x**0.5, x**0, x**-1, 2.0**x, 1.0**x]),
    "divided and cut": lambda x: torch.div(x, 1.5, rounding_mode="trunc"),
    "divided by zero and cut": lambda x: torch.div(x, 0.0, rounding_mode="trunc"),
    "divided by zero and rounded down": lambda x: torch.div(x, 0.0, rounding_mode="floor"),
    "fmod": lambda x: torch.stack([torch.fmod(x, 1.5), torch.fmod(x, 0.0)]),
    "bucketize": lambda x: torch.bucketize(x, _EDGES),
    "bucketize from the right": lambda x: torch.bucketize(x, _EDGES, right=True),
    "searchsorted": lambda x: torch.searchsorted(_EDGES, x),
    "searchsorted from the right": lambda x: torch.searchsorted(_EDGES, x, side="right"),
    "xlogy": lambda x: torch.xlogy(x, 0.0) + 2 * torch.xlogy(0.0, x),
    "sign on": lambda x: torch.copysign(torch.ones_like(x), x),
}  # fmt: skip
"""Of `VALUES`."""


ALL_PAIRS: Mapping[str, Case] = {
    **_named(
        torch.add, torch.sub, torch.mul, torch.div, torch.atan2, torch.maximum, torch.minimum, torch.fmax, torch.fmin,
        torch.floor_divide, torch.logaddexp, torch.xlogy, torch.copysign, torch.heaviside, torch.hypot, torch.isclose,
        torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge, torch.logical_and, torch.logical_or,
        torch.logical_xor,
    ),
    "divided and cut": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "divided and rounded down": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "remainder": lambda x, y: torch.remainder(torch.where(x.abs() < 1e9, x, x - x), y),
    "fmod": lambda x, y: torch.fmod(torch.where(x.abs() < 1e9, x, x - x), y),
    "isclose with NaN": lambda x, y: torch.isclose(x, y, equal_nan=True),
    "where": lambda x, y: torch.where(x > y, x, y),
    "at least": lambda x, y: x.clamp(min=y),
    "at most": lambda x, y: x.clamp(max=y),
    "divided by a zero with a sign": lambda x, y: 1 / torch.copysign(x * 0, y),
}  # fmt: skip
"""Of `FIRST` and `SECOND`."""

ALL_ROWS: Mapping[str, Case] = {
    "sum": lambda r: r.sum(1),
    "mean": lambda r: r.mean(1),
    "amax": lambda r: r.amax(1),
    "amin": lambda r: r.amin(1),
    "max": lambda r: r.max(1)[0],
    "min": lambda r: r.min(1)[0],
    "greatest of all": lambda r: r.max(),
    "prod": lambda r: r.prod(1),
    "any and all": lambda r: r.any(1).int() + 2 * r.all(1),
    "logsumexp": lambda r: torch.logsumexp(r, 1),
    "softmax": lambda r: torch.softmax(r, 1),
    "log_softmax": lambda r: torch.log_softmax(r, 1),
    "softmax of masked": lambda r: torch.softmax(r.masked_fill(r >= 5, -INF), 1),
    "var": lambda r: r.var(1),
    "norms": lambda r: torch.stack([r.norm(dim=1), r.norm(1, dim=1), r.norm(INF, dim=1)]),
    "cumsum": lambda r: r.cumsum(1),
    "cumprod": lambda r: r.cumprod(1),
    "sort": lambda r: r.sort(1)[0],
    "sort downwards": lambda r: r.sort(1, descending=True)[0],
    "the first two": lambda r: r.topk(2, 1)[0],
    "places": lambda r: torch.stack([r.argmax(1), r.argmin(1), r.max(1)[1], r.min(1)[1], r.topk(1, 1)[1][:, 0]]),
    "nansum": lambda r: r.nansum(1),
    "layer_norm": lambda r: F.layer_norm(r, (3,)),
    "pooled": lambda r: F.max_pool1d(r[:, None], 3, 1, 1),
    "padded": lambda r: F.pad(r, (1, 1), value=-INF),
    "searchsorted by row": lambda r: torch.searchsorted(_EDGES.expand(9, 5).contiguous(), r),
}
"""Of `ROWS` (9, 3)."""

ALL_INTEGERS: Mapping[str, Case] = {
    "quotient": lambda a, b: a / b,
    "floor_divide": lambda a, b: torch.floor_divide(a, _divisor(b)),
    "divided and cut": lambda a, b: torch.div(a, _divisor(b), rounding_mode="trunc"),
    "by a number": lambda a, b: torch.stack(
        [torch.div(a, -7, rounding_mode=each) for each in ("trunc", "floor")] + [torch.fmod(a, 7), a % -7]
    ),
    "remainder": lambda a, b: torch.remainder(a, _divisor(b)),
    "fmod": lambda a, b: torch.fmod(a, _divisor(b)),
    "comparisons": lambda a, b: (a > b).int() + 2 * (a >= b) + 4 * (a < b) + 8 * (a <= b) + 16 * (a == b),
    "extremes": lambda a, b: torch.maximum(a, b) - torch.minimum(a, b) // 3,
    "clamp": lambda a, b: a.clamp(-3, 2**24 + 1),
    "at least": lambda a, b: a.clamp(min=2),
    "bits": lambda a, b: ~a,
    "bucketize": lambda a, b: torch.bucketize(a, torch.tensor([-3, 0, 2**24])),
    "atan2": torch.atan2,
    "sign": lambda a, b: a.sign() * a.clamp(-9, 9).abs(),
}
"""Of `WHOLE` and `OTHER`, int32."""

GROUPS: Sequence[tuple[Mapping[str, Case], tuple[Tensor, ...]]] = (
    (ALL_VALUES, (VALUES,)),
    (ALL_PAIRS, (FIRST, SECOND)),
    (ALL_ROWS, (ROWS,)),
    (ALL_INTEGERS, (WHOLE, OTHER)),
)
INPUTS = [tensor for _, given in GROUPS for tensor in given]
NAMES = [f"{name} ({len(given)} of {given[0].dtype})" for table, given in GROUPS for name in table]


class Sweep(torch.nn.Module):
    """Every case of every group; truths as integers."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results: list[Tensor] = []
        for table, given in GROUPS:
            own, inputs = inputs[: len(given)], inputs[len(given) :]
            results += [_returned(case(*own)) for case in table.values()]
        return tuple(results)


def _returned(x: Tensor) -> Tensor:
    if x.dtype is torch.bool:
        return torch.where(x, 1, 0).to(torch.int32)
    return x * 1 if x.is_floating_point() else x.to(torch.int32)


def check_sweep(found: Mapping[str, Any]) -> None:
    """Assert that the outputs `y0`, `y1`… are torch's, and name all that are not."""
    wrong = []
    for number, (name, wanted) in enumerate(zip(NAMES, Sweep()(*INPUTS), strict=True)):
        got = np.asarray(found[f"y{number}"]).reshape(wanted.shape)
        # float32's rounding of some operators in a row
        same = np.isclose(
            got.astype(np.float64), wanted.numpy().astype(np.float64), rtol=2e-5, atol=2e-7, equal_nan=True
        )
        if not same.all():
            place = tuple(np.argwhere(~same)[0])
            wrong.append(f"{name} at {place}: {got[place]} instead of {wanted.numpy()[place]}")
    assert not wrong, "\n".join(wrong)
