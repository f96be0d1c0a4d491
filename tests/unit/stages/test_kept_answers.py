"""Models that answer by what they were called with before, or at random: no program does."""

from __future__ import annotations

import itertools
import random
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from builder.errors import BuilderError, ConversionError
from builder.stages.capture import capture
from tests.unit.stages.test_capture import prepared_with

_COUNTER = itertools.count()


class Carries(nn.Module):
    """A running sum in an attribute, and what was seen last, which is only looked at from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = (torch.zeros(1, 4), 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sum = (self.sum[0] + x.mean(), 0)
        return x + self.sum[0].mean()


class Counts(nn.Module):
    """How often it was called, as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Compares(nn.Module):
    """What it was called with last, in a dictionary: the same once more is no difference."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = self.last.get("x", x)
        self.last["x"] = x
        return x - 0.5 * last


class HoldsOn(nn.Module):
    """To the mean of its first input."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mean is None:
            self.mean = x.mean()
        return x - self.mean


class Initialises(nn.Module):
    """A weight of its first input (ActNorm)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("begun", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.begun:
            self.scale.data.copy_(1 / (x.abs().mean() + 1))
            self.begun.fill_(1)
        return x * self.scale


class Previous(nn.Module):
    """The input before, in a namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.held = SimpleNamespace(last=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = x if self.held.last is None else self.held.last
        self.held.last = x
        return x - 0.5 * last


class CountsOutside(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + next(_COUNTER)


class Draws(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + random.random()


class Notes(nn.Module):
    """Counts its calls, keeps what it computed first, and answers by neither."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.table: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen = x
        if self.table is None:
            self.table = torch.arange(4.0)
        return x + self.table


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Carries, r"keeps sum\[0\] from one call to the next in attributes"),
        (Counts, "keeps calls from one call to the next in attributes"),
        (Compares, r"keeps last\['x'\] from one call to the next in attributes"),
        (HoldsOn, "keeps mean from one call"),
        (Initialises, "changes its parameter scale to what its first input gives"),
        (Previous, r"keeps held.last from one call"),
        (CountsOutside, "another answer when it is called again"),
        (Draws, "another answer when it is called again"),
    ],
)
def test_what_a_model_answers_by_is_named(model: type[nn.Module], message: str) -> None:
    with pytest.raises(ConversionError, match=message) as raised:
        prepared_with(model())
    assert (raised.value.code, raised.value.key) == ("B0403", "source")


class NotNumbers(nn.Module):
    """Weights with NaN and infinities, which are what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([torch.nan, 1.0, 2.0, 3.0]))
        self.register_buffer("limits", torch.tensor([torch.inf, -torch.inf]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.nan_to_num(0.5)


def test_weights_that_are_no_numbers_have_not_changed() -> None:
    prepared, _, _ = prepared_with(NotNumbers())
    assert prepared.output_names == ("output",)


def test_weights_that_a_first_call_makes_are_named() -> None:
    with pytest.raises(ConversionError, match=r"no weights for 0\.weight before its first call"):
        prepared_with(nn.Sequential(nn.LazyLinear(3)))


class HoldsSize(nn.Module):
    """To the first size that it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.held = SimpleNamespace(size=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.held.size is None:
            self.held.size = x.shape[1]
        return x / self.held.size


_SIZES: dict[nn.Module, int] = {}


class HoldsSizeOutside(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / _SIZES.setdefault(self, x.shape[1])


class Table(nn.Module):
    """Made as long as the longest input so far."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.table) < x.shape[1]:
            self.table = torch.arange(x.shape[1]).float()
        return x + self.table[: x.shape[1]]


OPEN = {"x": {"kind": "tensor", "shape": [1, {"min": 4, "max": 40, "default": 16}]}}


@pytest.mark.parametrize(
    ("model", "message"),
    [(HoldsSize, "keeps held.size from one call"), (HoldsSizeOutside, "or after others")],
)
def test_a_size_of_a_first_call_that_is_kept_is_found(model: type[nn.Module], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        prepared_with(model(), input=OPEN)


def test_a_table_that_grows_is_let_be() -> None:
    prepared, _, _ = prepared_with(Table(), input=OPEN)
    assert prepared.output_names == ("output",)


def test_what_is_only_noted_is_let_be() -> None:
    prepared, _, _ = prepared_with(Notes())
    assert prepared.output_names == ("output",)


class CountsUse(nn.Module):
    """A quantiser that counts how often each code is used, on average, and answers by its codes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("code", torch.randn(4, 3))
        self.register_buffer("used", torch.zeros(4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("is_used", torch.zeros(4, dtype=torch.bool))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nearest = torch.cdist(x[..., None] + torch.zeros(3), self.code[None]).argmin(-1)
        self.used.mul_(0.9).add_(nn.functional.one_hot(nearest, 4).float().sum((0, 1)))
        self.calls += 1
        self.is_used |= self.used > 0
        return self.code[nearest]


class Rewritten(nn.Module):
    """A cache of keys whose used part each call writes before it reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.keys[:, : x.shape[1]] = x * 2
        return x + self.keys[:, : x.shape[1]]


class ReadsAll(Rewritten):
    """What an earlier and longer input left as well."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.keys.sum()


class Late(nn.Module):
    """Answers otherwise after many calls; as a number, or as a buffer."""

    def __init__(self, *, is_buffer: bool) -> None:
        super().__init__()
        self.calls: int | torch.Tensor = 0
        if is_buffer:
            del self.calls
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * 2 if self.calls > 500 else x


@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize("model", [CountsUse, Rewritten])
def test_buffers_that_decide_no_answer_are_no_states(model: type[nn.Module], method: str) -> None:
    module = model()
    prepared, examples, _ = prepared_with(module, input=OPEN)
    program = capture(prepared, examples, method, {}, strict=True)
    if method == "export":
        assert not program.program.graph_signature.buffers_to_mutate
    for size in (4, 17, 40, 5):
        x = torch.randn(1, size)
        torch.testing.assert_close(program.run(x)[0], module(x))


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        (ReadsAll(), "changes its buffer keys, which no state declares", r"write `state: \{keys: \{buffer: keys\}\}`"),
        (
            Late(is_buffer=True),
            "changes its buffer calls, which no state declares",
            r"this is int64 of shape \(\): return",
        ),
        (Late(is_buffer=False), "answers of the model depend on calls as it counts its calls", "takes what is kept as"),
    ],
)
def test_what_is_kept_and_decides_an_answer_is_named(model: nn.Module, message: str, hint: str) -> None:
    with pytest.raises(BuilderError, match=message) as raised:
        prepared_with(model, input=OPEN)
    assert re.search(hint, raised.value.hint or "")


def test_a_buffer_that_the_first_input_sets_is_called_one() -> None:
    class Sets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.full((1,), torch.nan))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.mean.isnan():
                self.mean.copy_(x.mean())
            return x - self.mean

    with pytest.raises(ConversionError, match="keeps mean from one call to the next in buffers that"):
        prepared_with(Sets())


class Resizes(nn.Module):
    """A table that is made anew whenever the size is another, held with that size."""

    def __init__(self) -> None:
        super().__init__()
        self.size: int | None = None
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != self.size:
            self.size = x.shape[1]
            self.sizes.append(x.shape[1])
            self.table = torch.arange(x.shape[1]).float()
        return x + self.table


def test_a_first_call_is_captured_at_every_size() -> None:
    module = Resizes()
    prepared, examples, _ = prepared_with(module, input=OPEN)
    program = capture(prepared, examples, "export", {}, strict=True)
    for size in (4, 17, 40):
        x = torch.randn(1, size)
        torch.testing.assert_close(program.run(x)[0], module(x))
