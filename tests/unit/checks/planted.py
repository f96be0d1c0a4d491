"""Errors planted into small models: original and artifact as functions, on inputs that a recipe declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import Answers, Sample
from builder.checks.engine import Engine
from builder.checks.executed import parity_reports
from builder.checks.states import StateCarry
from builder.checks.subject import Converted, Subject
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.spec.checks import ParityCheck

Function = Callable[..., Tensor]


class Original(nn.Module):
    """A function as the deployed form of a model."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.function(*inputs),)


def parity(
    inputs: Mapping[str, Mapping[str, Any]],
    original: Function,
    artifact: Function,
    *,
    check: Mapping[str, Any] | None = None,
    precision: str = "fp16",
    build_seconds: float = 0.0,
    compression: Mapping[str, Any] | None = None,
    converted: Function | None = None,
) -> CheckReport:
    """The report of the default parity check where `artifact` is executed in the place of a sealed file.

    With `compression`, `converted` is executed in the place of the program before it.
    """
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "python", "factory": "some:thing"},
            "input": inputs,
            "precision": {"kind": precision},
            "compression": {} if compression is None else {"weights": compression},
            "target": {"name": "ios18"},
            "checks": {"parity": {"kind": "parity", **(check or {})}},
            "tracking": {"kind": "none"},
        }
    )
    module = Original(original)
    prepared: Any = SimpleNamespace(
        answers=Answers(),
        module=module, uncompressed=module, reference=module, output_names=("y",), states={}, suppression=None,
        preprocessing=None, labels=None,
    )  # fmt: skip
    anything: Any = None
    plain = Converted(path=Path(), spec=spec.model_copy(update={"compression": {}}))
    subject = Subject(
        spec=spec,
        prepared=prepared,
        captured=anything,
        sealed=anything,
        progress=Silent(),
        build_seconds=build_seconds,
        converted=None if converted is None else plain,
    )
    given = spec.checks["parity"]
    assert isinstance(given, ParityCheck)

    with (
        patch("builder.checks.executed.engines", lambda *_: [_engine(artifact)]),
        patch("builder.checks.plain._engine", lambda *_: _engine(converted or artifact)),
    ):
        (report,) = parity_reports("parity", "parity", given, subject, StateCarry())
    return report


def _engine(function: Function) -> Engine:
    def execute(sample: Sample) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"y": function(*sample.tensors.values())}

    return Engine(name="runtime", execute=execute)


def coarse(function: Function, share: float) -> Function:
    """What is left of a function where its weights are compressed: each float is off by up to `share`."""

    def compressed(*given: Tensor) -> Tensor:
        value = function(*given)
        if not value.is_floating_point():
            return value
        noise = torch.rand(value.shape, generator=torch.Generator().manual_seed(5)) * 2 - 1
        return value * (1 + share * noise)

    return compressed


def tensor(*shape: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "tensor", "shape": list(shape), **more}


def layers(seed: int, *sizes: int) -> nn.Module:
    """Linear layers with ReLU between, seeded."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for low, high in pairwise(sizes):
        parts += [nn.Linear(low, high), nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval()


def scaled_row(module: nn.Module, row: int, factor: float) -> nn.Module:
    """A copy whose last layer has one row scaled."""
    import copy

    other = copy.deepcopy(module)
    last = [part for part in other.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        last.weight[row] *= factor
    return other


def half(value: Tensor) -> Tensor:
    """Rounded to half precision: beyond 65504 infinite."""
    return value.half().float()


Planted = tuple[str, Mapping[str, Mapping[str, Any]], Function, Function]


def planted_errors() -> Sequence[Planted]:
    """The name of each error, the inputs, the right function and the wrong one."""
    net, wide = layers(0, 64, 128, 64, 16), layers(1, 400, 64, 10)
    vector, sound, free = tensor(1, 64), tensor(1, 400), {"min": 1, "max": 64, "default": 16}
    ids = tensor(1, 32, dtype="int32", high=100_000)
    torch.manual_seed(2)
    table, direction = torch.randn(1024, 8), torch.randn(64) / 8
    mask = tensor(1, 32, dtype="int32", high=2)
    picture = {"kind": "image", "shape": [1, 3, 32, 32], "scale": 1 / 255}

    def masked(x: Tensor, m: Tensor) -> Tensor:
        return (x * m[..., None]).sum(1) / m.sum(1, keepdim=True)

    def normalised(x: Tensor, variance: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / (variance[:, None] + 1e-5).sqrt()

    def pooled(x: Tensor) -> Tensor:
        return torch.stack([x.mean(dim=(1, 2, 3)), x.amax(dim=(1, 2, 3)), x.std(dim=(1, 2, 3))], 1)

    return [
        ("a scaled row of weights", {"x": vector}, net, scaled_row(net, 3, 1.2)),
        ("a weight with the wrong sign", {"x": vector}, net, scaled_row(net, 0, -1.0)),
        ("a branch on the mean", {"x": vector}, net, lambda x: net(x) * (2.0 if x.mean() > 0.6 else 1.0)),
        ("a branch on the largest value", {"x": vector}, net, lambda x: net(x) + (1.0 if x.max() > 3.4 else 0.0)),
        ("a branch on silence", {"x": sound}, wide, lambda x: wide(x) + (1.0 if not x.any() else 0.0)),
        ("a branch on a low level", {"x": sound}, wide, lambda x: wide(x) + (1.0 if x.abs().max() < 0.01 else 0.0)),
        (
            "an overflow of loud inputs",
            {"x": sound},
            lambda x: (x**2).sum(1) / 400,
            lambda x: half((x**2 * 40).sum(1)) / 16000,
        ),
        (
            "an overflow at one input in a thousand",
            {"x": tensor(1, 8)},
            lambda x: (x * 20000).mean(1),
            lambda x: half(x * 20000).mean(1),
        ),
        (
            "an overflow of one direction",
            {"x": vector},
            lambda x: net(x) + (x @ direction)[:, None],
            lambda x: net(x) + half((x @ direction) * 18000)[:, None] / 18000,
        ),
        (
            "E[x²] - E[x]²",
            {"x": sound},
            lambda x: normalised(x, x.var(1, correction=0)),
            lambda x: normalised(x, half(half((x**2).mean(1)) - half(half(x.mean(1)) ** 2)).clamp(0)),
        ),
        (
            "a logarithm of what half loses",
            {"x": sound},
            lambda x: torch.log(x.abs() + 1e-9),
            lambda x: torch.log(half(x.abs() + 1e-9) + 1e-30),
        ),
        (
            "the logarithm of silence",
            {"x": tensor(1, 40, low=0.0, high=1.0)},
            lambda x: torch.log10(x.clamp(min=1e-10)),
            lambda x: torch.log10(half(x.clamp(min=6e-8))),
        ),
        (
            "softmax without its maximum",
            {"x": vector},
            lambda x: (4 * x).softmax(1),
            lambda x: half((4 * x).exp()) / half((4 * x).exp()).sum(1, keepdim=True),
        ),
        (
            "the last of an odd size",
            {"x": tensor(1, {"min": 2, "max": 64, "default": 16})},
            lambda x: x.mean(1),
            lambda x: x[:, : x.shape[1] // 2 * 2].mean(1),
        ),
        (
            "a branch on sizes",
            {"x": tensor(1, free)},
            lambda x: x.sum(1),
            lambda x: x.sum(1) if x.shape[1] in (1, 16, 64) else 2 * x.sum(1),
        ),
        (
            "round sizes alone",
            {"x": tensor(1, {"min": 4, "max": 48, "default": 16})},
            lambda x: x.sum(1),
            lambda x: x.sum(1) + (1.0 if x.shape[1] % 4 == 0 and x.shape[1] not in (4, 16, 48) else 0.0),
        ),
        (
            "a token of two hundred",
            {"i": tensor(1, 16, dtype="int32", high=200)},
            lambda i: table[i],
            lambda i: torch.where((i == 77)[..., None], 0.0, table[i]),
        ),
        (
            "height for width where both are equal",
            {"x": tensor(1, 2, free, free)},
            lambda x: x.mean(2),
            lambda x: x.mean(2) if x.shape[2] != x.shape[3] else x.mean(3),
        ),
        (
            "a batch that repeats its first",
            {"x": tensor({"min": 1, "max": 8, "default": 1}, 16)},
            lambda x: x * 2,
            lambda x: (x[:1] * 2).expand_as(x) if 1 < x.shape[0] < 8 else x * 2,
        ),
        ("integers in 16 bits", {"i": ids}, lambda i: i % 1000, lambda i: i.to(torch.int16).int() % 1000),
        (
            "integers in half precision",
            {"i": tensor(1, 32, dtype="int32", high=2100)},
            lambda i: i,
            lambda i: i.half().int(),
        ),
        (
            "negative integers wrap",
            {"i": tensor(1, 16, dtype="int32", low=-3, high=1000)},
            lambda i: table[i % 1024],
            lambda i: table[i.clamp(0)],
        ),
        (
            "a mask that is not counted",
            {"x": tensor(1, 32, 4), "mask": mask},
            masked,
            lambda x, m: (x * m[..., None]).mean(1),
        ),
        (
            "a mask of one",
            {"x": tensor(1, 32, 4), "mask": mask},
            masked,
            lambda x, m: masked(x, m) + (1.0 if m.sum() == 1 else 0.0),
        ),
        (
            "the id of padding",
            {"i": ids},
            lambda i: table[i % 1024].mean(1),
            lambda i: (table[i % 1024] * (i != 0)[..., None]).mean(1),
        ),
        ("white clipped", {"x": picture}, pooled, lambda x: pooled(x.clamp(max=200))),
        ("a branch on a dark picture", {"x": picture}, pooled, lambda x: pooled(x) + (9.0 if x.mean() < 3 else 0.0)),
        (
            "a count in half precision",
            {"x": tensor(1, 5000)},
            lambda x: (x > -3).int().sum(1),
            lambda x: half((x > -3).float().sum(1) / 64).int() * 64,
        ),
        (
            "the second best of what ties",
            {"x": vector},
            lambda x: x.argmax(1).int(),
            lambda x: x.topk(2).indices[:, 1].int(),
        ),
        ("a clip of what is rare", {"x": vector}, lambda x: net(x), lambda x: net(x.clamp(-2.5, 2.5))),
    ]
