"""What is tried beside the samples, and other engines, leave the states alone that samples are judged on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import coreml_runtime as runtime
from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import Sample
from builder.checks.engine import Engine
from builder.checks.parity import check_parity
from builder.checks.samples import check_samples
from builder.checks.states import StateCarry
from builder.checks.subject import Subject
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.spec.checks import ParityCheck
from coreml_runtime.features import ArrayFeature

SIZE = 16
Step = Callable[[Tensor, Tensor], Tensor]
"""From the input and the state before, each (1, SIZE), to the output; the state is a decayed sum of the inputs."""


class Decayed(nn.Module):
    """Keeps a decayed sum; refuses a constant input, but only after it has changed its state."""

    total: Tensor

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("total", torch.zeros(1, SIZE))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        result = self.step(x, self.total)
        self.total.copy_(0.5 * self.total + x)
        if x.std() == 0 and x.any():
            raise ValueError("a constant")
        return (result,)


def subject_of(function: str, step: Step) -> Subject:
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "python", "factory": "some:thing"},
            "input": {"x": {"kind": "tensor", "shape": [1, SIZE]}},
            "state": {"total": {"buffer": "total"}},
            "precision": {"kind": "fp16"},
            "target": {"name": "ios18"},
            "checks": {"parity": {"kind": "parity"}},
            "tracking": {"kind": "none"},
        }
    )
    module = Decayed(step)
    unused: Any = None
    prepared: Any = SimpleNamespace(
        module=module, uncompressed=module, reference=module, output_names=("y",), states={"total": "total"},
        suppression=None, preprocessing=None, labels=None,
    )  # fmt: skip
    return Subject(spec=spec, prepared=prepared, captured=unused, sealed=unused, progress=Silent(), function=function)


def make_state(form: str) -> Any:
    """A state as our runtime has it, or as a backend's engine does."""
    if form == "arrays":
        return {"total": np.zeros((1, SIZE), dtype=np.float16)}
    feature = ArrayFeature(name="total", dtype="fp16", shape=(1, SIZE))
    return runtime.State({"total": feature}, {"total": torch.zeros(1, SIZE, dtype=torch.float16)})


class Artifact:
    """The same in half precision, on a state that stays with its engine; remembers what each call began with."""

    def __init__(self, kept: StateCarry, form: str = "runtime") -> None:
        self.kept, self.form = kept, form
        self.begun: list[np.ndarray[Any, Any]] = []

    def read(self, engine: str = "runtime") -> np.ndarray[Any, Any]:
        held = self.kept.artifact[engine]
        return np.array(held["total"] if isinstance(held, dict) else held.read_state("total"))

    def engine(self, step: Step, name: str = "runtime", samples: int | None = None) -> Engine:
        held = self.kept.artifact.setdefault(name, make_state(self.form))

        def execute(sample: Sample) -> dict[str, Tensor]:
            x, before = sample.tensors["x"].half().float(), self.read(name)
            self.begun.append(before)
            total = torch.tensor(before).float()
            after = (0.5 * total + x).half().numpy()
            if isinstance(held, dict):
                held["total"] = after
            else:
                held.write_state("total", after)
            return {"y": step(x, total)}

        return Engine(name=name, execute=execute, samples=samples)


def run(subject: Subject, engine: Engine, kept: StateCarry, **more: Any) -> CheckReport:
    check = ParityCheck.model_validate({"kind": "parity", "search": 0, **more})
    return check_parity("parity", check, subject, check_samples("parity", check, subject), engine, kept)


def plus(x: Tensor, total: Tensor) -> Tensor:
    return x + total


@pytest.mark.parametrize("form", ["runtime", "arrays"])
def test_stress_inputs_leave_the_states_of_the_samples_alone(form: str) -> None:
    # given two functions that share a state, of which the original refuses some stress inputs half done
    kept, alone = StateCarry(), StateCarry()
    artifact, without = Artifact(kept, form), Artifact(alone, form)
    first, second = subject_of("first", plus), subject_of("second", plus)
    # when
    report = run(first, artifact.engine(plus), kept)
    run(subject_of("first", plus), without.engine(plus), alone, stress=False)
    # then stress inputs were tried and refused, each from one state, and both sides are where the samples left them
    assert report.passed
    assert report.data is not None
    assert report.data["refused_by_original"]
    samples = len(without.begun)
    assert len(artifact.begun) > samples + 2
    assert all(np.array_equal(begun, artifact.begun[samples]) for begun in artifact.begun[samples:])
    np.testing.assert_array_equal(artifact.read(), without.read())
    torch.testing.assert_close(kept.original["runtime"], alone.original["runtime"])
    # and the next function goes on from there
    following = run(second, artifact.engine(plus), kept, stress=False)
    assert following.passed
    assert following.values["y"]["snr_db"] > 50


def test_an_engine_after_another_leaves_the_states_of_the_first_alone() -> None:
    # given
    kept = StateCarry()
    artifact = Artifact(kept)
    first, second = subject_of("first", plus), subject_of("second", plus)
    # when a slow engine runs the same modules on fewer samples
    for subject in (first, second):
        for name, samples in (("runtime", None), ("slow", 2)):
            report = run(subject, artifact.engine(plus, name, samples), kept, stress=False)
            # then
            assert report.passed, (subject.function, name, report.reason)
            assert report.values["y"]["snr_db"] > 50


def test_what_a_model_with_states_is_not_sure_of_is_not_an_error() -> None:
    # given a model that looks closely at small noise on a large value, which half precision loses
    def normalised(x: Tensor, total: Tensor) -> Tensor:
        return torch.sin(8 * (x - x.mean()) / (x.std() + 1e-6)) + 0.01 * total

    kept = StateCarry()
    # when
    report = run(subject_of("", normalised), Artifact(kept).engine(normalised), kept)
    # then
    assert report.passed, report.reason


def test_a_wrong_branch_on_a_stress_input_is_found_in_a_model_with_states() -> None:
    kept = StateCarry()
    engine = Artifact(kept).engine(lambda x, total: plus(x, total) + (1.0 if not x.any() else 0.0))
    report = run(subject_of("", plus), engine, kept)
    assert report.passed is False
    assert "zero" in str(report.reason)


def test_a_model_with_states_is_searched() -> None:
    # given an error that neither samples nor stress inputs show
    def wrong(x: Tensor, total: Tensor) -> Tensor:
        return plus(x, total) + (1.0 if 0.2 < float(x.mean()) < 0.5 and float(x.std()) > 0.3 else 0.0)

    kept = StateCarry()
    engine = Artifact(kept).engine(wrong)
    # when
    report = run(subject_of("", plus), engine, kept, search=10.0, stress=False)
    # then it is found, kept for the next time, and both sides are where the samples left them
    assert report.passed is False
    assert "the search found" in str(report.reason)
    assert report.worst_input is not None
    left = kept.original["runtime"]["total"]
    torch.testing.assert_close(
        torch.tensor(kept.artifact["runtime"].read_state("total")).float(), left, atol=5e-3, rtol=0
    )


def test_a_state_that_is_not_updated_is_found() -> None:
    kept = StateCarry()
    artifact = Artifact(kept)
    engine = artifact.engine(plus)

    def forgets(sample: Sample) -> dict[str, Tensor]:
        before = artifact.read()
        found = engine.execute(sample)
        kept.artifact["runtime"].write_state("total", before)
        return dict(found)

    report = run(subject_of("", plus), Engine(name="runtime", execute=forgets), kept)
    assert report.passed is False
    assert report.failed_on["y"]
