"""Operators of exported programs that torch itself writes with others; Fourier transforms among them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import UnsupportedOperatorException
from torch.nn import functional

from builder.artifacts.stages import CapturedProgram
from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.lowerings import decomposed
from builder.backends.coreml.lowerings.decomposed import written_out
from builder.backends.coreml.screening import refuse_what_cannot_convert
from builder.errors import ConversionError
from tests.unit.lowerings.agreement import Case, Cases, Draw, agree, captured, floats


def defined_by_torch(rng: random.Random) -> Case:
    return (
        lambda a, b: (
            torch.kron(a, b), functional.huber_loss(a, b), torch.trapezoid(a, dim=0), torch.dist(a, b),
            torch.tensordot(a, b.T, 1), torch.renorm(a, 2, 0, 1.0), torch.linalg.multi_dot([a, b.T, a]),
            torch.gradient(a)[0], torch.dist(a, b, float("inf")),
            torch.vdot(a[0], b[0]), functional.triplet_margin_loss(a, b, a * 2),
        ),
        (floats(rng, 3, 4), floats(rng, 3, 4)),
    )  # fmt: skip


def transforms(rng: random.Random) -> Case:
    """Of real numbers, of complex ones and back, odd and even sizes, every norm, filled up and cut."""

    def transform(x: Tensor) -> tuple[Tensor, ...]:
        fft = torch.fft
        halves = fft.rfft2(x, norm="ortho")
        results = [
            fft.fft(x),
            fft.fft2(x, norm="ortho"),
            fft.fftn(x, norm="forward"),
            fft.rfft(x, n=7, dim=1),
            halves,
            fft.ifft(fft.fft(x, dim=0), dim=0),
            fft.fft(x[0, 0], n=3),
            fft.ihfft(x),
        ]
        back = [
            fft.irfft2(halves, s=(4, 5), norm="ortho"),
            fft.irfft(fft.rfft(x), n=5),
            fft.irfft(x, n=6, norm="forward"),
        ]
        return (*(torch.view_as_real(result.resolve_conj()) for result in results), *back)

    return transform, (floats(rng, 2, 4, 5),)  # fmt: skip


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("draw", [defined_by_torch, transforms])
def test_torchs_definition_takes_the_place_of_an_operator_without_a_lowering(
    draw: Draw, half: bool, tmp_path: Path
) -> None:
    agree(draw, method="export", half=half, folder=tmp_path, count=1)


def called_as_words(rng: random.Random) -> Case:
    """Values that torch calls as a word among the arguments of others is: `trunc`, `tanh`, `amax`."""
    return (
        lambda x: (
            x.trunc() * 2, torch.div(x, 0.3, rounding_mode="trunc"), x.tanh(), functional.gelu(x, approximate="tanh"),
            x.floor() * 3, torch.div(x, 0.3, rounding_mode="floor"),
        ),
        (floats(rng, 3, 4),),
    )  # fmt: skip


def test_a_value_that_is_called_as_a_word_is_not_taken_for_it(tmp_path: Path) -> None:
    agree(called_as_words, method="export", half=False, folder=tmp_path, count=1)


def learnt_for_integers(rng: random.Random) -> Case:
    """Fake quantization: of tensors, of channels, and as `prepare_qat` writes both."""
    scales, zeros = torch.tensor([0.25, 0.5, 0.125]), torch.tensor([0, 3, 100], dtype=torch.int32)
    seen = {n: (torch.linspace(-1, -2, n), torch.linspace(1, 3, n), torch.ones(n), zeros[:n] * 1) for n in (1, 3)}

    def fused(x: Tensor, *, by_channel: bool) -> Tensor:
        observed, axis = seen[3 if by_channel else 1], 0 if by_channel else -1
        off, on = torch.tensor([0]), torch.tensor([1])
        return torch.fused_moving_avg_obs_fake_quant(x, off, on, *observed, 0.01, 0, 127, axis, by_channel, False)

    x = floats(rng, 3, 4)
    for by_channel in (False, True):
        fused(x, by_channel=by_channel)  # takes steps from the range that was seen
    return (
        lambda x: (
            torch.fake_quantize_per_tensor_affine(x, 0.125, 3, -8, 7),
            torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, 0, 127),
            fused(x, by_channel=False) * 1, fused(x, by_channel=True) * 1,
        ),
        (x,),
    )  # fmt: skip


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_steps_of_integers_are_torchs(half: bool, tmp_path: Path) -> None:
    agree(learnt_for_integers, method="trace", half=half, folder=tmp_path, count=1)


def _exported(function: object, *given: Tensor) -> CapturedProgram:
    import_coremltools()
    module = Cases([(function, given)]).eval()  # type: ignore[list-item]
    return CapturedProgram(program=captured(module, given, "export"), method="export", failures={})


def test_only_operators_without_a_lowering_are_written_out() -> None:
    # given programs of which one has an operator that coremltools lacks
    known, other = (
        _exported(lambda x: torch.softmax(x, -1), torch.ones(2, 2)),
        _exported(torch.kron, *[torch.ones(2, 2)] * 2),
    )
    # when they are written out
    # then the first stays the same object, and the second has other operators
    assert written_out(known) is known
    assert "kron" not in str(written_out(other).program.graph)
    refuse_what_cannot_convert(other)


def test_an_operator_that_torch_does_not_define_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConversionError, match="`digamma` has no lowering"):
        refuse_what_cannot_convert(_exported(torch.digamma, torch.ones(3)))
    # nor a branch of an exported program
    branch = _exported(lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)), torch.ones(3))
    with pytest.raises(ConversionError, match="`cond` has no lowering"):
        refuse_what_cannot_convert(branch)
    # nor one whose definition torch cannot follow, beside one that is defined
    write = decomposed._written_with

    def follow(program: Any, table: Mapping[Any, Any]) -> Any:
        if torch.ops.aten.huber_loss.default in table:
            raise UnsupportedOperatorException(torch.ops.aten.huber_loss.default)
        return write(program, table)

    monkeypatch.setattr(decomposed, "_written_with", follow)
    both = _exported(lambda x: functional.huber_loss(torch.kron(x, x), torch.kron(x, x)), torch.ones(3, 3))
    with pytest.raises(ConversionError, match=r"^`huber_loss` has no lowering"):
        refuse_what_cannot_convert(both)
