"""Operators by torch's own definitions, sorting that keeps the order of equals, places of maxima, volumes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from builder.errors import ConversionError
from tests.unit.lowerings.agreement import Case, Cases, Draw, agree, convert, floats, integers, ways


def defined(rng: random.Random) -> Case:
    """What no lowering has: losses, products, transforms, and cells with projections, one step after the other."""
    torch.manual_seed(rng.randrange(2**31))
    return (
        lambda x, y: (
            torch.kron(x, y), functional.huber_loss(x, y), functional.smooth_l1_loss(x, y, reduction="none"),
            torch.cartesian_prod(x[0], y[0]), torch.diag_embed(x, dim1=0, dim2=2), torch.trapezoid(x),
            torch.fft.fft2(x).real, torch.fft.irfft(torch.fft.rfft(x), n=4), torch.fft.fftshift(x),
            torch.tensordot(x, y, dims=([1], [1])), torch.linalg.matrix_power(x @ y.mT, 3), torch.sinc(x), x.H * 1,
            x + torch.zeros(()), torch.logit(x.abs(), eps=0.1), torch.view_as_real(x.cfloat() * 2),
        ),
        (floats(rng, 2, 4), floats(rng, 2, 4)),
    )  # fmt: skip


def counted(rng: random.Random) -> Case:
    return (
        lambda x, i: (
            *torch.sort(i, dim=1, stable=True, descending=True), torch.argsort(x.round(), dim=0, stable=True),
            *torch.mode(i, 1), torch.histc(x, 5, -1.0, 1.0), torch.histc(x, 3), torch.nanmedian(x / x.round(), 1)[0],
            *torch.sort(i > 0, dim=0, stable=True),
        ),
        (floats(rng, 4, 7), integers(rng, 4, 7, low=0, high=3)),
    )  # fmt: skip


def rounded(rng: random.Random) -> Case:
    return (
        lambda x: (
            torch.round(x, decimals=2), torch.round(x, decimals=-1), torch.signbit(x), torch.sgn(x),
            torch.erfinv(x / 64), torch.special.ndtri(x.abs() / 64 + 0.1),
        ),
        (floats(rng, 3, 5, low=-50, high=50),),
    )  # fmt: skip


def narrow(rng: random.Random) -> Case:
    """Values that half precision has next to one another: no part of their range may count less than none."""
    values = torch.tensor([1.0] * rng.randint(3, 6) + [1.0009765625] * rng.randint(3, 6))
    far, wide = torch.linspace(256, 258, 9), torch.tensor([-60000.0, -30000.0, 0.0, 1.0, 40000.0, 60000.0])
    return (
        lambda x, y, z: (torch.histc(x, 10), torch.histc(y, 3), torch.histc(x[:3], 4), torch.histc(z, 5)),
        (values, far, wide),
    )


def ill_conditioned(rng: random.Random) -> Case:
    """Equations of condition 60, whose cofactors cancel."""
    a = torch.tensor([[1.0, 0.5, 1 / 3], [0.5, 1 / 3, 0.25], [1 / 3, 0.25, 0.2]]).half().float() + 0.02 * torch.eye(3)
    return (lambda a, b: (torch.linalg.solve(a, b), torch.linalg.solve(a, b, left=False))), (a, floats(rng, 3, 3))


def places(rng: random.Random) -> Case:
    width = rng.randint(5, 9)
    return (
        lambda x, v: (
            *functional.max_pool2d(x, 2, return_indices=True),
            *functional.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True),
            *functional.max_pool1d(x[0], 3, 1, 1, 2, return_indices=True),
            *functional.max_pool3d(v, 2, return_indices=True),
            *functional.adaptive_max_pool2d(x, (2, 3), return_indices=True),
        ),
        (floats(rng, 1, 2, 7, width), floats(rng, 1, 2, 4, 4, 6)),
    )  # fmt: skip


def by_name(rng: random.Random) -> Case:
    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = torch.zeros(3, 4)
        torch.add(x, 1.0, out=out)
        values, indices = torch.empty(3), torch.empty(3, dtype=torch.long)
        torch.max(x, 1, out=(values, indices))
        return out * 2, values * 1, indices

    return run, (floats(rng, 3, 4),)


def put_back(rng: random.Random) -> Case:
    indices = torch.tensor([[[[0, 2], [9, 15]]]])
    return (lambda x: torch.ops.aten.max_unpool2d(x, indices, [4, 5])), (floats(rng, 1, 1, 2, 2),)


def _transformed(x: torch.Tensor, theta: torch.Tensor, padding: str) -> tuple[torch.Tensor, ...]:
    """A spatial transformer: the map is computed, and nearest places on the half are rounded to even."""
    grid = functional.affine_grid(theta, (1, 2, 6, 5), align_corners=False)
    halves = torch.tensor([[[[-0.8, -0.6], [0.0, 0.2], [0.4, 1.0]]]]).expand(1, 1, 3, 2)
    return (
        functional.grid_sample(x, grid, padding_mode=padding, align_corners=False),
        functional.grid_sample(x, halves + 0 * theta[0, 0, 0], mode="nearest", align_corners=False),
    )


def volumes(rng: random.Random) -> Case:
    padding, corners = rng.choice(["zeros", "border", "reflection"]), rng.random() < 0.5
    return (
        lambda x, grid: (
            tuple(
                functional.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=corners)
                for mode in ("bilinear", "nearest")
            )
            + _transformed(x[:, :, 0], grid[:, 0, :2, 0], padding)
        )
    ), (floats(rng, 1, 2, 4, 5, 6), floats(rng, 1, 2, 3, 2, 3, low=-0.9, high=0.9))


def with_open_factors(rng: random.Random) -> Case:
    return (
        lambda x, w: (
            functional.layer_norm(x, (6,), w, w), functional.layer_norm(x, (6,), w),
            functional.instance_norm(x.mT, weight=w, bias=w),
        ),
        (floats(rng, 2, 3, 6), floats(rng, 6)),
    )  # fmt: skip


def pooled(rng: random.Random) -> Case:
    return (
        lambda x: (
            functional.avg_pool2d(x[0], 2, divisor_override=3), functional.avg_pool3d(x, 3, 2, 1, ceil_mode=True),
            functional.avg_pool2d(x[0], 3, 2, 1, True, True, 5),
        ),
        (floats(rng, 1, 2, 5, 7, 6),),
    )  # fmt: skip


def solved(rng: random.Random) -> Case:
    torch.manual_seed(rng.randrange(2**31))
    layer = nn.Bilinear(3, 3, 4).requires_grad_(False)
    index = torch.tensor([0, 2])
    return (
        lambda a, b: (
            torch.linalg.slogdet(a + 4 * torch.eye(3))[1], functional.pdist(a), a.put(index, b[0, :2]),
            a.index_reduce(0, index, b[:2], "amax"), a.index_reduce(1, index, b[:, :2], "mean", include_self=False),
            torch.quantile(a, 0.3, interpolation="nearest"), torch.nanquantile(a, 0.4, dim=1),
            functional.hinge_embedding_loss(a, b.sign()),
            torch.linalg.solve(a + 4 * torch.eye(3), b[:, :1]), layer(a, b),
        ),
        (floats(rng, 3, 3), floats(rng, 3, 3)),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:index_reduce")
@ways(defined, counted, rounded, places, by_name, put_back, pooled, solved, with_open_factors)
def test_these_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path, count=1)


@pytest.mark.parametrize(("draw", "half"), [(narrow, True), (narrow, False), (ill_conditioned, False)])
def test_digits_are_not_lost(draw: Draw, half: bool, tmp_path: Path) -> None:
    agree(draw, method="export", half=half, folder=tmp_path, count=1)


def test_volumes_are_sampled_on_a_grid(tmp_path: Path) -> None:
    agree(volumes, method="trace", half=False, folder=tmp_path, count=3, within=1e-4)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_trace_has_covariances_and_projected_cells(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(4, 5, proj_size=3, batch_first=True, bidirectional=True).requires_grad_(False)

    def draw(rng: random.Random) -> Case:
        return (lambda x: (torch.cov(x[0]), torch.corrcoef(x[0]), *(y for y in layer(x)[:1]))), (floats(rng, 1, 6, 4),)

    used = agree(draw, method="trace", half=False, folder=tmp_path, count=1)
    assert used["lstm"].why == "torch defines it by others, which convert"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: torch.bincount(x.int()), "as many counts as the greatest value says"),
        (lambda x: x.to(torch.bfloat16).float(), "Core ML has no bfloat16"),
        (
            lambda x: torch.view_as_real(torch.complex(x, x).sum(0, keepdim=True)),
            "complex64",
        ),  # whose definition is `sum` again
        (lambda x: torch.linalg.svdvals(x), "'linalg_svdvals' not implemented"),
    ],
)
def test_what_stays_refused_names_the_reason(function: object, said: str) -> None:
    x = torch.ones(3, 3) if "svd" in said else torch.ones(3)
    with pytest.raises(ConversionError, match=said):
        convert(Cases([(function, (x,))]).eval(), [x], method="trace", half=False)


def test_an_exported_program_names_the_dtype_that_is_lacking() -> None:
    x = torch.ones(3)
    module = Cases([(lambda x: x.to(torch.bfloat16).float(), (x,))]).eval()
    with pytest.raises(ConversionError, match="it gives bfloat16, a dtype that Core ML lacks"):
        convert(module, [x], method="export", half=False)
