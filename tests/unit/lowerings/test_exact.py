"""Operators at values that random ones never hit: far from zero, equal, opposite, masked altogether, beyond 16 bits."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import coreml_runtime as runtime
from builder.backends.coreml.lowerings.register import registered_lowerings
from builder.backends.coreml.patches.exact_passes import exact_passes
from tests.unit.lowerings.agreement import Case, Draw, agree, captured, floats, integers, ways


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


_FAR = rows([0, 0, 0, 50, 0, 0], [0, -20, 3, 15, 9, -8], [-100, -50, -20, -90, -100, -200], [7, 7, 7, 7, 7, 7])


def logarithms(rng: random.Random) -> Case:
    return (
        lambda x: (
            functional.log_softmax(x, -1), functional.log_softmax(x, 0), torch.logcumsumexp(x, 1),
            torch.logcumsumexp(x, 0), torch.logaddexp(x, -x), torch.logsumexp(x, 1),
        ),
        (_FAR,),
    )  # fmt: skip


def logarithms_of_infinities(rng: random.Random) -> Case:
    low = -float("inf")
    return (lambda x: torch.logcumsumexp(x * 1, 1)), (rows([low, low, 1, low], [2, low, 3, 1]),)


def logarithms_of_zero(rng: random.Random) -> Case:
    return (
        lambda x: (torch.log(x), torch.log2(x), torch.log10(x), torch.rsqrt(x), torch.rsqrt(x + 1e-5)),
        (torch.tensor([0.0, 1.0, 8.0, 100.0]),),
    )


def logarithms_of_many(rng: random.Random) -> Case:
    return (lambda x: functional.log_softmax(x * torch.ones(70000), -1)[:, :3]), (rows([1.0], [2.0]),)


def spreads(rng: random.Random) -> Case:
    x = floats(rng, 3, 5, 6, low=-300, high=300)
    return (
        lambda x: (
            torch.std(x), x.std(), torch.std(x, (0, 2), correction=0), torch.std(x, 1, unbiased=False),
            torch.std(x, -1, correction=3), torch.var(x * 0.5, -1, correction=2, keepdim=True), torch.var(x * 0.25),
            *torch.var_mean(x * 0.5, (1, 2), correction=3), *torch.std_mean(x),
        ),
        (x,),
    )  # fmt: skip


def spreads_of_little(rng: random.Random) -> Case:
    return (lambda x: (x.std(), x.std(1), x.var(1), x.var())), (rows([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),)


def group_norms(rng: random.Random) -> Case:
    x, weight, bias = floats(rng, 2, 6, 4, 3, low=-1000, high=1000), floats(rng, 6), floats(rng, 6)
    return (
        lambda x, w, b: (
            functional.group_norm(x, 3, w, b), functional.group_norm(x, 2), functional.group_norm(x * 0, 2),
            functional.group_norm(x, 1, eps=1e-12),
        ),
        (x, weight, bias),
    )  # fmt: skip


def instance_norms(rng: random.Random) -> Case:
    mean, variance, weight = floats(rng, 3), floats(rng, 3, low=0.5, high=2.0), floats(rng, 3)
    return (
        lambda x: (
            functional.instance_norm(x, mean, variance, weight, weight, use_input_stats=False),
            functional.instance_norm(x, weight=weight), functional.instance_norm(x[..., 0], mean, variance,
                                                                                 use_input_stats=False),
        ),
        (floats(rng, 2, 3, 2, 4, 5),),
    )  # fmt: skip


def similarities(rng: random.Random) -> Case:
    x = torch.cat([floats(rng, 2, 8, low=-900, high=900), floats(rng, 2, 8) / 64, torch.zeros(1, 8)])
    return (
        lambda x, y: (functional.cosine_similarity(x, y), functional.cosine_similarity(x, y, dim=0),
                      functional.cosine_similarity(x, y[0], dim=-1)),
        (x, x.flip(1).contiguous()),
    )  # fmt: skip


def truths(rng: random.Random) -> Case:
    x = rows([0.5, 0.25, -0.25], [-1, 0, 0], [0, 0, 0], [-3, -4, -5])
    return (
        lambda x: (x.any(), x.all(), x.any(1), x.all(1), x[:1].all(), x.any(dim=0, keepdim=True), torch.all(x > -9)),
        (x,),
    )


def angles(rng: random.Random) -> Case:
    y = torch.tensor([0.0, 0, 0, 1, -1, 2, -2, 3, -3])
    x = torch.tensor([-1.0, 1, 0, 0, 0, -2, -2, 4, 4])
    return (lambda y, x: (torch.atan2(y, x), torch.atan2(y, x[:1]))), (y, x)


def whole_limits(rng: random.Random) -> Case:
    x = torch.tensor([2049, -2049, 70001, -70001, 2**24 + 1, 5], dtype=torch.int32)
    return (
        lambda x: (
            torch.clamp(x, -70000, 2**24), torch.clamp_min(x, 3), torch.clamp(x, max=2050), torch.minimum(x, x.flip(0)),
            torch.clamp(x, torch.tensor(-2049), x.flip(0).long()), functional.pad(x, (1, 2), value=2049),
            functional.pad(x.reshape(2, 3), (1, -1, 1, 0)), functional.pad(x > 0, (1, 1)),
        ),
        (x,),
    )  # fmt: skip


def limits_that_are_tensors(rng: random.Random) -> Case:
    x, low, high = (torch.tensor(v) for v in ([-3.0, 0.5, 3.0, 1.0], [-1.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 9.0]))
    return (
        lambda x, low, high: (torch.clamp(x, low, high), torch.clamp(x, low), torch.clamp(x, max=high), x.clamp(2, 1)),
        (x, low, high),
    )


def places(rng: random.Random) -> Case:
    x = floats(rng, 3, 4, 5)
    return (lambda x: (x.argmax(), x.argmin(), torch.argmax(x, keepdim=True), x.argmax(1), x.abs().argmin(-1))), (x,)


def remainders_of_little(rng: random.Random) -> Case:
    """Quotients that half precision does not hold."""
    x = torch.tensor([60000.0, -60000.0, 300.0, 0.0])
    return (lambda x: (torch.remainder(x, 2.0**-14), 7.0 % (x + 1), torch.remainder(x > 0, 3))), (x,)


def products_that_cancel(rng: random.Random) -> Case:
    x, matrix = torch.tensor([500.0, -60000.0]), torch.tensor([[200.0, 100], [3, 1]])
    return (
        lambda x, m: (
            torch.addr(m, x[:1].expand(2), x[0] * torch.ones(2), alpha=0.1), torch.addmv(m[0], m, x, alpha=0.01),
            torch.addbmm(m, (m * 5)[None], (m * 2)[None], alpha=0.1), torch.lerp(x[1:], -x[1:], 0.25),
            torch.isposinf((m * 500).int()), torch.isneginf(m / 0 * (m - 150)),
        ),
        (x, matrix),
    )  # fmt: skip


def remainders_of_one(rng: random.Random) -> Case:
    x = torch.tensor([0.25, 1.25, 2.5, 7.3125, 100.375, -0.25, -1.0, 0.0])
    return (lambda x: (x % 1, torch.remainder(x, 1), x % -1.0, torch.floor_divide(x, 1), x // 1.0)), (x,)


def added_to_layers(rng: random.Random) -> Case:
    """A scalar added to a layer with one output, and a bias with more dimensions than the layer has."""
    x, one, three = (
        floats(rng, 2, 4),
        torch.nn.Linear(4, 1).requires_grad_(False),
        torch.nn.Linear(4, 3).requires_grad_(False),
    )
    row = torch.arange(3.0).reshape(1, 1, 3)
    return (
        lambda x: (
            one(x) + 0.5, 0.5 - one(x[0]), one(x) - torch.tensor(2.0), one(x) + torch.ones(1, 1, 1), three(x) - row,
            row - three(x[0]), three(x) + row[0],
        ),
        (x,),
    )  # fmt: skip


def approximations(rng: random.Random) -> Case:
    x = floats(rng, 4, 5)
    return (lambda x: (functional.gelu(x, approximate="tanh"), functional.gelu(x))), (x,)


def narrowed(rng: random.Random) -> Case:
    x = floats(rng, 4, 5)
    return (lambda x: (x.narrow(-1, -1, 1), x.narrow(0, -3, 2), x.narrow(1, 1, 3))), (x,)


def weighted_products(rng: random.Random) -> Case:
    x, a, b = floats(rng, 4, 4), floats(rng, 4, 3), floats(rng, 3, 4)
    endless = torch.full((4, 4), float("inf"))
    return (
        lambda x, a, b, e: (
            torch.addmm(x, a, b, beta=0.5, alpha=2), torch.addmm(x[0], a, b, alpha=-1), torch.addmm(e, a, b, beta=0),
            torch.addr(e, a[:, 0], b[0], beta=0), torch.baddbmm(x[None], a[None], b[None], beta=2, alpha=3),
            torch.addmv(x[0], x, x[1], beta=0, alpha=2),
        ),
        (x, a, b, endless),
    )  # fmt: skip


def vectors_by_stacks(rng: random.Random) -> Case:
    stack, vector = floats(rng, 2, 3, 4, 5), floats(rng, 4)
    return (lambda s, v, w: (torch.matmul(v, s), torch.matmul(s, w), v @ s[0, 0], s[0, 0] @ w, w @ w)), (
        stack, vector, floats(rng, 5),
    )  # fmt: skip


def einsums(rng: random.Random) -> Case:
    x, y, s = floats(rng, 2, 3, 4), floats(rng, 6), floats(rng, 4, 4)
    return (
        lambda x, y, s: (
            torch.einsum("..., f -> ... f", x, y), torch.einsum("ii->", s), torch.einsum("ii->i", s),
            torch.einsum("...ij->...ji", x), torch.einsum("bij,jk,k->bi", x, s, s[0]), torch.einsum("i,j->", y, y),
            torch.einsum("bij,bkj->b", x, x), torch.einsum("bij,jk", x, s), torch.einsum("b...d,b...d->b...", x, x),
            torch.einsum("bij,bkj->bik", x, x), torch.einsum("ij,ij->", s, s),
        ),
        (x, y, s),
    )  # fmt: skip


def masked(rng: random.Random) -> Case:
    small, mask = floats(rng, 1, 4), torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.int32)
    return (lambda x, m: (x.masked_fill(m > 0, 7.0), torch.xlogy(x, m + 1), torch.copysign(m.float(), x))), (
        small,
        mask,
    )


def padded_round(rng: random.Random) -> Case:
    x = floats(rng, 1, 2, 6)
    return (lambda x: (functional.pad(x, (2, -1), mode="circular"), functional.pad(x, (-2, 1), mode="replicate"))), (x,)


def differences(rng: random.Random) -> Case:
    x = floats(rng, 2, 4)
    return (lambda x: (torch.diff(x, n=0), torch.diff(x, n=2))), (x,)


def smoothly_resized(rng: random.Random) -> Case:
    x = floats(rng, 1, 2, 12, 14)
    return (
        lambda x: (
            functional.interpolate(x, size=(5, 6), mode="bilinear", antialias=True),
            functional.interpolate(x, size=(15, 6), mode="bilinear", antialias=True, align_corners=True),
            functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
        ),
        (x,),
    )


def transposed_convolutions(rng: random.Random) -> Case:
    x, one, two = floats(rng, 1, 4, 6, 6), floats(rng, 4, 3, 3), floats(rng, 4, 3, 2, 3)
    bias = floats(rng, 6)
    return (
        lambda x: (
            functional.conv_transpose1d(x[..., 0], one, stride=2, padding=1, output_padding=1),
            functional.conv_transpose1d(x[..., 0], one, stride=3, output_padding=2),
            functional.conv_transpose2d(x, two, bias, stride=(3, 2), padding=(0, 1), output_padding=(2, 1), groups=2,
                                        dilation=(1, 2)),
        ),
        (x,),
    )  # fmt: skip


def bags_with_padding(rng: random.Random) -> Case:
    table, ids = floats(rng, 6, 3), torch.tensor([0, 5, 2, 5, 1], dtype=torch.int32)
    offsets = torch.tensor([0, 2, 3], dtype=torch.int32)
    return (
        lambda i, o: tuple(
            functional.embedding_bag(i.long(), table, o.long(), mode=mode, padding_idx=row)
            for mode in ("sum", "mean", "max") for row in (-1, 0)
        ),
        (ids, offsets),
    )  # fmt: skip


def shifts(rng: random.Random) -> Case:
    x = torch.tensor([5, -5, 2**30 + 1, -1, 77, -(2**31), 7, 8], dtype=torch.int32)
    y = torch.tensor([1, 2, 30, 31, 32, 31, -1, 1000], dtype=torch.int32)
    return (lambda x, y: (x << y, x >> y)), (x, y)


def near_zero(rng: random.Random) -> Case:
    x = torch.tensor([1e-3, -1e-3, 0.0, 2.0**-12])
    return (lambda x: torch.expm1(x)), (x.half().float(),)


def crossed(rng: random.Random) -> Case:
    x, y = floats(rng, 5, 3, 3), floats(rng, 5, 3, 3)
    powers = torch.tensor([-5, 0, 3], dtype=torch.int32)

    def multiply(x: Tensor, y: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an axis that is not named
            return torch.cross(x, y), torch.linalg.cross(x, y), torch.exp2(n), x.view_as(y) + 0

    return multiply, (x, y, powers)


def of_complex_numbers(rng: random.Random) -> Case:
    x = floats(rng, 3, 2)
    return (lambda x: torch.view_as_real(torch.view_as_complex(x).conj().resolve_conj())), (x,)


def batch_norms_of_the_sample(rng: random.Random) -> Case:
    return (lambda x: functional.batch_norm(x, torch.zeros(3), torch.ones(3), training=True)), (
        floats(rng, 4, 3, 5, low=-900, high=900),
    )


def composed(rng: random.Random) -> Case:
    x, y, flat = floats(rng, 3, 5), floats(rng, 2, 2), floats(rng, 4, low=1.0, high=300.0)
    return (
        lambda x, y, v: (
            *torch.cummax(x, 1), *torch.cummin(x, 0), *torch.cummax(x * 0, 1), torch.broadcast_to(v, (3, 4)),
            torch.asinh(v), torch.asinh(-v), torch.acosh(v), torch.isclose(x, x + 1e-9), torch.isposinf(x / 0),
            torch.isneginf(x / 0), torch.nansum(x), torch.nanmean(x, 1), torch.fmax(x, x[:1]), torch.fmin(x, x[:1]),
            torch.logaddexp2(x, -x), torch.diag(v), torch.diag(v, 1), torch.diag(v, -2), torch.diag(x, 1),
            torch.block_diag(x, y, v), *torch.hsplit(x, [2, 4]), *torch.vsplit(x, 3), torch.float_power(v, 0.5),
        ),
        (x, y, flat),
    )  # fmt: skip


def powers_of_far_numbers(rng: random.Random) -> Case:
    x = floats(rng, 3, 4, low=-100, high=100)
    return (
        lambda x: (
            functional.softplus(x, 8, 0.2),
            functional.softplus(x * 500, 0.5),
            torch.linalg.vector_norm(x, 6),
            torch.linalg.vector_norm(x, 3, dim=1),
            functional.celu(x / 2**16),
        ),
        (x,),
    )


@ways(
    composed, powers_of_far_numbers, shifts, near_zero, crossed, of_complex_numbers, batch_norms_of_the_sample,
    logarithms, logarithms_of_infinities, logarithms_of_zero, logarithms_of_many, spreads, spreads_of_little,
    group_norms, instance_norms, similarities, truths, angles, whole_limits, limits_that_are_tensors, places,
    remainders_of_one, added_to_layers, remainders_of_little, products_that_cancel, approximations, narrowed,
    weighted_products,
    vectors_by_stacks, einsums, masked, padded_round,
    differences, smoothly_resized, transposed_convolutions, bags_with_padding,
)  # fmt: skip
def test_edges_agree_with_torch(draw: Draw, method: str, half: bool, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path, count=1)


def hidden_rows(rng: random.Random) -> Case:
    """Scores that differ by more than half precision resolves at 3e4, some rows without anything to see."""
    q, k, v = floats(rng, 2, 3, 5, 8, low=-4, high=4), floats(rng, 2, 3, 6, 8, low=-4, high=4), floats(rng, 2, 3, 6, 8)
    shown = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.int32)

    def attend(q: Tensor, k: Tensor, v: Tensor, shown: Tensor) -> tuple[Tensor, ...]:
        scores, hidden = q @ k.transpose(-1, -2), (1.0 - shown.float())[:, None, None, :]
        least = torch.finfo(torch.float32).min
        filled = scores.masked_fill(shown[:, None, None, :] == 0, -1e9)
        endless = torch.zeros(2, 6).masked_fill(shown == 0, -float("inf"))[:, None, None, :].expand(2, 3, 5, 6)
        return (
            torch.softmax(scores + hidden * least, -1) @ v,
            torch.softmax(scores / 8 + hidden * -1e9, -1) @ v,  # which swallows up to 32 in float32
            torch.softmax(scores / 8 - hidden * 1e9, -1) @ v,
            torch.softmax(filled, -1) @ v,
            functional.scaled_dot_product_attention(q, k, v, attn_mask=shown[:, None, None, :].expand(2, 3, 5, 6) > 0),
            functional.scaled_dot_product_attention(q, k, v, attn_mask=shown[:, None, None, :] > 0, scale=0.3),
            functional.scaled_dot_product_attention(q, k, v, attn_mask=endless),
            functional.scaled_dot_product_attention(q / 8, k, v, attn_mask=(hidden * least).expand(2, 3, 5, 6)),
        )

    return attend, (q, k, v, shown)


@ways(hidden_rows)
@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_rows_that_are_hidden_altogether(draw: Draw, method: str, half: bool, target: str, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path, count=1, target=target)


def causal(rng: random.Random) -> Case:
    q, k, v = floats(rng, 2, 3, 8), floats(rng, 2, 6, 8), floats(rng, 2, 6, 8)
    diagonal = torch.ones(3, 6, dtype=torch.bool).tril(2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        attention = functional.scaled_dot_product_attention
        far = attention(q, k, v, is_causal=True, scale=-5000.0)  # scores beyond what a mask of -3e4 hides
        results = [attention(q, k, v, is_causal=True), attention(q, k, v, attn_mask=diagonal)]
        return *results, attention(q[0], k[0], v[0]), attention(q[0], k[0], v[0], is_causal=True), far

    return attend, (q.abs(), k.abs(), v)


@ways(causal)
@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_causal_attention(draw: Draw, method: str, half: bool, target: str, tmp_path: Path) -> None:
    agree(draw, method=method, half=half, folder=tmp_path, count=1, target=target)


def whole_numbers(rng: random.Random) -> Case:
    x = torch.tensor([[0, -262, 73751, 2**24 + 1, 2049, -70001]], dtype=torch.int32)
    many, at = integers(rng, 40000), torch.tensor([[39999], [32768], [3]], dtype=torch.int32)
    return (
        lambda x, f, many, at: (
            torch.gather(x, 1, f.topk(2, 1).indices), x[:, 1], x[0].unsqueeze(0).squeeze(0) + 0,
            torch.index_select(x, 1, f[0].argmax(keepdim=True)), torch.roll(x, 2, 1), torch.sort(x, 1).values,
            x.topk(3, 1).values, many[at[:, 0].long()], torch.gather(many, 0, at[:, 0].long()),
        ),
        (x, floats(rng, 1, 6), many, at),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["trace", "export"])
def test_integers_stay_whole_in_half_precision(method: str, tmp_path: Path) -> None:
    agree(whole_numbers, method=method, half=True, folder=tmp_path, count=1)


def spectra(rng: random.Random) -> Case:
    """Of 1024 points, whose angles go to thousands of radians."""
    window = torch.hann_window(1024)
    return (
        lambda x: torch.view_as_real(torch.stft(x, 1024, 512, window=window, return_complex=True)),
        (floats(rng, 1, 2048),),
    )


def test_spectra_of_many_points_are_exact(tmp_path: Path) -> None:
    agree(spectra, method="trace", half=False, folder=tmp_path, count=1, within=1e-6)


def test_a_neural_network_has_torchs_neighbours_and_no_epsilon(tmp_path: Path) -> None:
    # given sizes that are enlarged, made smaller, and one of each; (1, 123) is where torch's float32 rounds down
    class Resized(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            sizes = ((7, 9), (2, 3), (2, 9), (6, 8), (1, 123))
            return (*(functional.interpolate(x, size=size) for size in sizes), (x / 2048).abs().rsqrt())

    x = floats(random.Random(0), 1, 2, 3, 4)
    with exact_passes(), registered_lowerings():
        model = ct.convert(
            captured(Resized(), [x], "trace"),
            inputs=[ct.TensorType(name="x", shape=x.shape)],
            outputs=[ct.TensorType(name=f"y{i}") for i in range(6)],
            convert_to="neuralnetwork",
            skip_model_load=True,
        )
    model.save(str(tmp_path / "resized.mlmodel"))
    # then
    got = runtime.load(tmp_path / "resized.mlmodel").predict({"x": x.numpy()})
    for index, wanted in enumerate(Resized()(x)):
        np.testing.assert_allclose(got[f"y{index}"], wanted.numpy(), rtol=1e-6, atol=0)
