"""What the original is not sure of is computed for the inputs that need it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from builder.artifacts.stages import Sample
from builder.checks.beside import Judge, _Others
from builder.checks.comparison import Outputs
from builder.spec.base import Limit


class Answers:
    """The other answers of an original that is sure of itself, counted."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, number: int) -> list[Outputs]:
        self.asked.append(number)
        return [{"y": torch.ones(4)}]

    def further(self, number: int) -> Iterator[Outputs]:
        yield from self(number)


@pytest.mark.parametrize(("error", "asked"), [(1e-3, []), (1e-1, [0, 0])])
def test_the_original_is_asked_again_only_where_an_input_misses_a_limit(error: float, asked: list[int]) -> None:
    # given a limit of 40 dB, and an artifact that is 60 or 20 dB from the original
    answers = Answers()
    prepared = SimpleNamespace(states={}, uncompressed=None)
    subject: Any = SimpleNamespace(prepared=prepared, other_outputs=lambda _module, _samples: answers)
    judge = Judge(
        subject=subject,
        execute=lambda _: {},
        sizes={},
        limits={"snr_db": Limit(min=40)},
        spread=0.0,
        others=_Others(subject, lambda: None),
        begin=lambda: None,
    )
    # when an input is judged
    sample = Sample(given={}, tensors={})
    reference, result = {"y": torch.ones(4)}, {"y": torch.ones(4) + error}
    found = judge._compared(reference, result, judge.others.of(sample), like_real=True)
    # then
    assert (found.failure is None, answers.asked) == (not asked, asked)
