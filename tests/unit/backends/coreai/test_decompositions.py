"""Our decompositions against torch, all in one conversion, executed by Apple's interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

from builder.backends.coreai import engine
from builder.backends.coreai.conversion import convert
from builder.errors import ConversionError
from builder.model.detection.suppress import suppress
from tests.unit.backends.coreai.conftest import export, plain

pytestmark = pytest.mark.filterwarnings("ignore:index_reduce")  # torch calls it beta

X = torch.tensor([[-2.7, -1.2, 0.0, 0.3], [1.9, 300.7, -1e-3, 4.0], [0.5, -0.5, 2.5, 7.25]])
INDEX = torch.tensor([[0, 2, 1, 0], [2, 2, 0, 1]])
PICTURE = torch.arange(2 * 3 * 7 * 5, dtype=torch.float32).sin().reshape(2, 3, 7, 5)
GRID = torch.linspace(-1.2, 1.2, 2 * 4 * 3 * 2).cos().reshape(2, 4, 3, 2)
VOLUME = torch.arange(1 * 2 * 4 * 6 * 5, dtype=torch.float32).cos().reshape(1, 2, 4, 6, 5)
WHOLE = torch.tensor([1, 300, -5, 70000], dtype=torch.int32)


def _putted(x: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[:, column] = x[:, :1] * 2
    return x


ALONG = (
    lambda y: (
        y.sum(0)
        + y.sum()
        + y.mean(0)
        + y.prod(0)
        + y.amax()
        + y.amin(0)
        + y.logsumexp(0)
        + y.cumprod(0)
        + y.count_nonzero()
    ),
    lambda y: y.max(0)[0] + y.median(0)[0] + y.kthvalue(1, 0)[0] + y.sort(0)[0] + y.topk(1, 0)[0] + y.squeeze(0),
    lambda y: y.softmax(0) + y.log_softmax(0) + y.norm(2, 0) + y.var(0, unbiased=False) + y.argmax(0) + y.argmin(),
    lambda y: (y > 0).any(0).int() + (y > 1).all(0).int() + y.index_select(0, torch.tensor([0])),
)
"""Along the only axis that one number does not have."""

CASES = {
    "sum with a factor": lambda x, p, v, i: torch.add(x, x.cos(), alpha=0.25),
    "difference with a factor": lambda x, p, v, i: torch.sub(x, x.cos(), alpha=3) - torch.rsub(x, 2.0, alpha=2),
    "elu": lambda x, p, v, i: F.elu(x, 0.7),
    "isnan": lambda x, p, v, i: (x / x).isnan(),
    "nan_to_num": lambda x, p, v, i: torch.nan_to_num(x / (x * 0), 1.0, 2.0, -3.0),
    "remainder": lambda x, p, v, i: torch.remainder(x, 1.5),
    "rounding division": lambda x, p, v, i: torch.div(x, 0.7, rounding_mode="floor"),
    "bits": lambda x, p, v, i: i & 12,
    "var": lambda x, p, v, i: x.var(1),
    "std": lambda x, p, v, i: x.std(0, unbiased=False),
    "argmin": lambda x, p, v, i: x.argmin(1),
    "argmin of all": lambda x, p, v, i: x.argmin(),
    "cumprod": lambda x, p, v, i: x.cumprod(1),
    "sort": lambda x, p, v, i: torch.sort(x, 1, descending=True)[0],
    "argsort": lambda x, p, v, i: torch.argsort(x, 0),
    "kthvalue": lambda x, p, v, i: torch.kthvalue(x, 2, 1)[0],
    "median": lambda x, p, v, i: torch.median(x, 1)[0],
    "as_strided": lambda x, p, v, i: torch.as_strided(x, (4, 3), (1, 4)),
    "as_strided with offset": lambda x, p, v, i: torch.as_strided(x.t().contiguous(), (2, 2), (2, 5), 1),
    "diagonal": lambda x, p, v, i: torch.diagonal(x, 1),
    "scatter_add": lambda x, p, v, i: x.scatter_add(0, INDEX, x[:2] * 2),
    "scatter_reduce": lambda x, p, v, i: x.scatter_reduce(0, INDEX, x[:2], "prod"),
    "greatest and least at indices": lambda x, p, v, i: (
        x.scatter_reduce(0, INDEX, x[:2] * 2, "amax")
        + x.scatter_reduce(1, INDEX[:, :3].t(), x[:, :2], "amin", include_self=False)
    ),
    "means at indices": lambda x, p, v, i: (
        x.scatter_reduce(0, INDEX, x[:2] * 2, "mean")
        + x.scatter_reduce(0, INDEX, x[:2] * 2, "mean", include_self=False)
    ),
    "greatest integers at indices": lambda x, p, v, i: torch.zeros_like(i).index_reduce(
        0, torch.tensor([2, 0, 2, 2]), i, "amin", include_self=False
    ),
    "slices reduced": lambda x, p, v, i: x.index_reduce(
        1, torch.tensor([1, 1, 3]), x[:, :3], "prod", include_self=False
    ),
    "index_add": lambda x, p, v, i: x.index_add(1, torch.tensor([1, 1, 3]), x[:, :3], alpha=2),
    "index_put": lambda x, p, v, i: _putted(x, i[:1].long()),
    "index_put of two": lambda x, p, v, i: x.index_put((INDEX[0], INDEX[1]), x[0], accumulate=True),
    "pooling that enlarges": lambda x, p, v, i: F.adaptive_avg_pool2d(p, (9, 4)),
    "adaptive maxima": lambda x, p, v, i: F.adaptive_max_pool2d(p, (3, 2)),
    "adaptive means of volumes": lambda x, p, v, i: F.adaptive_avg_pool3d(v, (3, 2, 2)),
    "max_pool3d": lambda x, p, v, i: F.max_pool3d(v, (2, 3, 2), (1, 2, 2), (1, 1, 0)),
    "grid_sample": lambda x, p, v, i: F.grid_sample(p, GRID, align_corners=False),
    "smooth cubic": lambda x, p, v, i: F.interpolate(p, (3, 8), mode="bicubic", antialias=True),
    "smooth linear": lambda x, p, v, i: F.interpolate(p, (3, 2), mode="bilinear", antialias=True, align_corners=True),
    "cdist": lambda x, p, v, i: torch.cdist(x, x[:2] + 1),
    "rfft": lambda x, p, v, i: torch.view_as_real(torch.fft.rfft(p, norm="ortho")),
    "irfft": lambda x, p, v, i: torch.fft.irfft(torch.fft.rfft(p, dim=2), n=7, dim=2),
    "float to int to float": lambda x, p, v, i: (x + 64).long().float() - 64,
    "int through float": lambda x, p, v, i: x.int().half().float(),
    "narrow int": lambda x, p, v, i: i.to(torch.int8).int(),
    "narrow unsigned": lambda x, p, v, i: i.to(torch.uint8).int(),
    "narrow int of a float": lambda x, p, v, i: (x * 300).to(torch.int8).int(),
    "narrow unsigned of a float": lambda x, p, v, i: (x.abs() * 300).to(torch.uint8).int(),
    "cut means": lambda x, p, v, i: F.avg_pool2d(p, 3, 2, 1, count_include_pad=False, ceil_mode=True),
    "cut means with padding": lambda x, p, v, i: F.avg_pool2d(p, (2, 3), 2, (1, 0), ceil_mode=True),
    "sums of windows": lambda x, p, v, i: F.avg_pool2d(p, 2, divisor_override=1),
    "floats of integers": lambda x, p, v, i: i.abs().sqrt() + i.sigmoid() + 2 / i,
    "shifts": lambda x, p, v, i: (i << 2) - (i >> 1),
    "booleans": lambda x, p, v, i: ((x > 0) * (x < 2)).int() + ((x > 2) + (x < -1)).int() * 2,
    "extrema of booleans": lambda x, p, v, i: (x > 0).amax(1).int() + (x > 2).max(1)[0].int(),
    "logaddexp": lambda x, p, v, i: torch.logaddexp(x, x.flip(1)),
    "copysign": lambda x, p, v, i: torch.copysign(x.abs() + 1, -x),
    "bucketize": lambda x, p, v, i: torch.bucketize(x, torch.tensor([-1.2, 0.0, 1.0]), right=True),
    "view of one": lambda x, p, v, i: x[:1, :1].reshape(()),
    "where with numbers": lambda x, p, v, i: torch.where(x > 0, 1.2345678, x) + x.masked_fill(x > 1, 0.7654321),
    "threshold": lambda x, p, v, i: F.threshold(x, 0.1234567, 0.7654321) + torch.xlogy(x, 1.2345678),
    "all of one": lambda x, p, v, i: x[:1, :1].reshape(()).all().int() + (x[0, 2] > 1).any().int(),
    "addbmm": lambda x, p, v, i: torch.addbmm(x[:, :3], p[:, :, :2, 0], p[:, 0, :2, :3], beta=0.5, alpha=2),
    "addmv": lambda x, p, v, i: torch.addmv(x[:, 0], x, x[0], beta=0.5, alpha=2),
    "extrema of all": lambda x, p, v, i: x.amin() + x.amax(keepdim=True),
    "means of what is there": lambda x, p, v, i: F.avg_pool2d(p, (3, 5), (2, 3), (1, 2), count_include_pad=False),
    "means of volumes": lambda x, p, v, i: F.avg_pool3d(v, 2, 2, 1, ceil_mode=True, count_include_pad=False),
    "windows behind the end": lambda x, p, v, i: F.avg_pool2d(p, (1, 2), (2, 3), (0, 1), ceil_mode=True),
    "all": lambda x, p, v, i: (x > -3).all().int() + 2 * x.all().int(),
    "narrow arithmetic": lambda x, p, v, i: (
        (x * 90).to(torch.int16) // 7 * 11
        + (x * 9).to(torch.int8) * 7
        + torch.div((x.abs() * 9).to(torch.uint8), 3, rounding_mode="trunc")
    ).int(),
    "equal values in their order": lambda x, p, v, i: torch.sort((x * 0.4).round(), dim=1, stable=True)[1],
    "equal values downwards": lambda x, p, v, i: torch.sort((x * 0.4).round(), dim=0, descending=True, stable=True)[1],
    "shifts of each": lambda x, p, v, i: (
        torch.bitwise_left_shift(i, torch.tensor([3, -1, 33, 5], dtype=torch.int32))
        - torch.bitwise_right_shift(i, torch.tensor([0, 31, -2, 40], dtype=torch.int32))
    ),
    "angle": lambda x, p, v, i: torch.angle(x) + torch.angle(i[:3, None]),
    "addbmm of integers": lambda x, p, v, i: torch.addbmm(i.reshape(2, 2), *[i.reshape(1, 2, 2) % 9] * 2, alpha=2),
    "addmv of integers": lambda x, p, v, i: torch.addmv(i[:2], i.reshape(2, 2) % 9, i[2:] % 5, beta=3),
    "along no axis": lambda x, p, v, i: sum(along(x[0, 2].reshape(())) for along in ALONG),
    "the greatest so far": lambda x, p, v, i: torch.cummax(x.round(), 1)[0] + torch.cummax(x.round(), 1)[1],
    "the least so far": lambda x, p, v, i: torch.cummin(x.round(), 0)[0] + torch.cummin(i, 0)[1][:3, None],
    "products of integers": lambda x, p, v, i: (i % 7).cumprod(0),
    "numbers that differ": lambda x, p, v, i: torch.cdist(x.round(), x[:2].round(), p=0),
    "parts of other sizes": lambda x, p, v, i: torch.view_as_real(torch.complex(x, x[:1]) * 2),
    "through bool": lambda x, p, v, i: x.bool().float(),
}
"""By name, what is computed of floats (3, 4), pictures (2, 3, 7, 5), a volume (1, 2, 4, 6, 5) and integers (4)."""


class AllCases(torch.nn.Module):
    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(case(*inputs) for case in CASES.values())


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    inputs = {"x": X, "p": PICTURE, "v": VOLUME, "i": WHOLE}
    asset = tmp_path_factory.mktemp("cases") / "cases.aimodel"
    convert(export(AllCases(), tuple(inputs.values())), asset, plain(inputs, len(CASES)), None)
    (found,), _ = engine.predict(asset, [{name: value.numpy() for name, value in inputs.items()}])
    return {name: found[f"y{number}"] for number, name in enumerate(CASES)}


@pytest.mark.parametrize("name", CASES)
def test_a_decomposition_computes_what_torch_computes(name: str, computed: dict[str, np.ndarray]) -> None:
    wanted = CASES[name](X, PICTURE, VOLUME, WHOLE).numpy()
    # sums in another order: float32's rounding of values up to a few hundred
    np.testing.assert_allclose(computed[name], wanted, rtol=2e-5, atol=2e-5)


def test_where_maxima_were_is_refused(tmp_path: Path) -> None:
    class Places(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.max_pool2d(x, 2, return_indices=True)[1]

    with pytest.raises(ConversionError, match=r"indices of aten\.max_pool2d_with_indices"):
        convert(export(Places(), (PICTURE,)), tmp_path / "m.aimodel", plain({"x": PICTURE}, 1), None)


FLEXIBLE = {
    "pad to even": lambda x: F.pad(x, (0, 0, 0, x.shape[1] % 2), value=2.0),
    "pad to a multiple": lambda x: F.pad(x, (0, 0, 0, -x.shape[1] % 4)),
    "sizes in numbers": lambda x: x + (3 - x.shape[1]) % 5 - (x.shape[1] - 20) // 7 + x.shape[1] ** 2,
    "pad before, cut behind": lambda x: F.pad(x, (1, 2, 3 - x.shape[1], 1)),
    "reflected to a multiple": lambda x: F.pad(x.mT, (0, (4 - x.shape[1] % 4) % 4), mode="reflect"),
    "repeated at both ends": lambda x: F.pad(x.mT, (x.shape[1] % 3, x.shape[1] % 2), mode="replicate"),
    "resized to two sizes": lambda x: F.interpolate(F.avg_pool2d(x[:, None], 2), size=x.shape[1:], mode="bilinear"),
    "nearest at two sizes": lambda x: F.interpolate(F.avg_pool2d(x[:, None], 2), size=x.shape[1:]),
    "sort": lambda x: x.sort(1)[0],
    "sort downwards": lambda x: x.sort(1, descending=True)[1],
    "median": lambda x: x.median(1)[0],
    "adaptive means": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "windows": lambda x: x.unfold(1, 3, 1),
    "means of what is there": lambda x: F.avg_pool2d(x[:, None], (3, 2), (2, 1), 1, count_include_pad=False),
    "windows that are cut off": lambda x: F.avg_pool2d(x[:, None], 3, 2, 1, ceil_mode=True, count_include_pad=False),
    "pad to at least eight": lambda x: F.pad(x.mT, (0, torch.sym_max(8 - x.shape[1], 0))),
    "the least and the greatest": lambda x: (
        x + torch.sym_min(x.shape[1], 9) * torch.sym_max(x.shape[1] - 9, -x.shape[1])
    ),
    "half in order": lambda x: x.topk(x.shape[1] // 2, 1)[0],
    "the middle one": lambda x: x.kthvalue(x.shape[1] // 2, 1)[0],
    "numbers with sizes": lambda x: torch.stack(
        [
            x.sum() + x.shape[1],
            (x.sum() * 9).clamp(max=x.shape[1] / 2),
            (x.sum() > x.shape[1]) * 2.0,
            x.abs().mean() ** x.shape[1],
            (x > 0).sum() % x.shape[1] * 1.0,
        ]
    ),
    "truths": lambda x: (x > 0).amax(1).int() + 2 * (x > 0).all(1) + 4 * (x > 1).any() + 8 * (x > 0).max(1)[0],
}
"""By name, what is computed of floats (1, L, 4), of which the app chooses L."""


class AllFlexible(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(case(x) for case in FLEXIBLE.values())


def test_sizes_that_the_app_chooses(tmp_path: Path) -> None:
    # given
    x = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0))
    shapes = (({1: torch.export.Dim("length", min=4, max=20)},),)
    program = export(AllFlexible(), (x,), dynamic_shapes=shapes)
    # when
    convert(program, tmp_path / "m.aimodel", plain({"x": x}, len(FLEXIBLE)), None)
    given = [torch.randn(1, size, 4, generator=torch.Generator().manual_seed(size)) for size in (4, 7, 13, 20)]
    found, _ = engine.predict(tmp_path / "m.aimodel", [{"x": each.numpy()} for each in given])
    # then
    for each, answer in zip(given, found, strict=True):
        for number, (name, case) in enumerate(FLEXIBLE.items()):
            np.testing.assert_allclose(answer[f"y{number}"], case(each).numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


class Unknown(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Identity()
        self.inner.forward = torch.special.i1  # type: ignore[method-assign]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x[:, :3]) + torch.linalg.inv(x[:, :3])


class Suppressing(torch.nn.Module):
    """What a detector of two stages does inside."""

    def forward(self, boxes: torch.Tensor) -> torch.Tensor:
        return suppress(boxes, boxes[:, 0], 0.5, 2)


def test_suppression_inside_a_program_is_named_with_what_to_do(tmp_path: Path) -> None:
    boxes = torch.rand(3, 4)
    with pytest.raises(ConversionError, match=r"no operator for builder\.suppress") as raised:
        convert(export(Suppressing(), (boxes,)), tmp_path / "m.aimodel", plain({"boxes": boxes}, 1), None)
    assert "detection.output: raw" in (raised.value.hint or "")


class Rooted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sym_sqrt(x.shape[1])


def test_arithmetic_of_sizes_that_nobody_converts_is_named_with_its_line(tmp_path: Path) -> None:
    x = torch.rand(1, 8, 4)
    program = export(Rooted(), (x,), dynamic_shapes=(({1: torch.export.Dim("n", min=4, max=9)},),))
    with pytest.raises(ConversionError, match=r"no sqrt of sizes \(in model, test_decompositions\.py:\d+\)") as raised:
        convert(program, tmp_path / "m.aimodel", plain({"x": x}, 1), None)
    assert "`min`, `max`" in (raised.value.hint or "")


def test_operators_that_nobody_converts_are_named_with_their_module(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"no operator for .*special_i1") as raised:
        convert(export(Unknown(), (X,)), tmp_path / "m.aimodel", plain({"x": X}, 1), None)
    assert "inv" in raised.value.message
    assert not (tmp_path / "m.aimodel").exists()
