"""What is probably not meant is said: softmax of probabilities, and counters that float16 does not hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from builder.artifacts.stages import LoadedModel
from builder.data import make_examples
from builder.model.cautions import cautions
from builder.stages.prepare import prepare
from tests.unit.stages.small_builds import make_spec


class Scores(nn.Module):
    """Logits, or probabilities, and a second output."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.last = last

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.linear(x)
        return self.last(y), y.sum(1)


class Keeps(nn.Module):
    """Counts, adds up small values, and keeps the last ones."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("last", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.mean.copy_(0.9 * self.mean + 0.1 * x[0])
        self.last.copy_(x)
        return self.mean + self.count + self.last


def found(module: nn.Module, **parts: object) -> tuple[str, ...]:
    torch.manual_seed(0)
    given = {"input": {"x": {"kind": "tensor", "shape": [1, 4]}}, "precision": {"kind": "fp32"}} | parts
    spec = make_spec(**given)
    examples = make_examples(spec)
    prepared = prepare(LoadedModel(module=module.eval(), digest="0" * 64, origin={}), examples, spec)
    return tuple(caution.message for caution in cautions(prepared, examples, spec))


@pytest.mark.parametrize(("softmax", "count"), [(True, 1), (False, 0)])
def test_a_softmax_that_is_there_already(softmax: bool, count: int) -> None:
    classifier = {"labels": ["a", "b", "c"], "softmax": softmax}
    said = found(Scores(nn.Softmax(-1)), classifier=classifier)
    assert len(said) == count
    assert all("write `classifier: {softmax: false}`" in line for line in said)
    assert found(Scores(nn.Identity()), classifier=classifier) == ()
    assert found(Scores(nn.Sigmoid()), classifier=classifier) == ()


def test_a_counter_in_half_precision() -> None:
    states = {name: {"buffer": name} for name in ("count", "mean", "last")}
    (said,) = found(Keeps(), state=states, target={"name": "ios18"})
    assert said.startswith("state count (buffer count) grows by small steps")
    assert "stands still at 2048" in said
