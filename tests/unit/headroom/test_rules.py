"""Each rule on a model that has the fault, and on one of the same parts that has not, where the bounds prove it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it

from builder.__main__ import main
from builder.analysis.headroom.analyse import analyse
from builder.analysis.headroom.domain import Domain
from builder.analysis.headroom.inputs import analyse_file
from builder.analysis.headroom.screen import format_headroom
from builder.analysis.headroom.table import RULES
from builder.analysis.neural_engine.table import RULES as NEURAL_ENGINE
from builder.artifacts.headroom import Headroom
from builder.spec.lint import RULE_NAMES
from coreml_runtime.package import open_package
from coreml_runtime.proto import messages
from tests.runtime.programs import save_program
from tests.runtime.stateful import save_stateful
from tests.runtime.test_pipeline import scaler

INPUTS = {
    "x": {"kind": "tensor", "shape": [1, 8], "low": -300, "high": 300},
    "mask": {"kind": "tensor", "shape": [1, 8], "low": 0, "high": 1},
    "ids": {"kind": "tensor", "shape": [1, 4], "dtype": "int32", "high": 50000},
    "steps": {"kind": "tensor", "shape": [1, 5000], "low": 0, "high": 1},
}
OUTPUTS = ("product", "small", "power", "variance", "logarithm", "masked", "same", "whole", "total", "inverse")
OPERATORS = {
    "half_overflow": "mul",
    "half_underflow": "mul",
    "exp_overflow": "exp",
    "cancellation": "sub",
    "log_of_softmax": "log",
    "integer_in_float": "cast",
    "saturating_cast": "cast",
    "counter_stops": "cumsum",
    "zero_division": "real_div",
}
"""By rule, the operator of the model that it finds."""
PROVEN = {
    "half_overflow",
    "exp_overflow",
    "log_of_softmax",
    "integer_in_float",
    "saturating_cast",
    "counter_stops",
    "zero_division",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Headroom]:
    """What is known of both models, each built once."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("numbers"))
        Path("recipes").mkdir()
        for kind in ("faulty", "sound"):
            recipe = {
                "schema": 1,
                "defaults": [{"precision": "fp16"}, {"target": "ios17"}, {"checks": "none"}, {"tracking": "none"}],
                "source": {"kind": "python", "factory": f"tests.unit.headroom.nets:{kind}"},
                "input": INPUTS,
                "output": dict.fromkeys(OUTPUTS),
            }
            Path(f"recipes/{kind}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
            assert main([f"recipe={kind}"]) == 0
            (path,) = Path(f"outputs/{kind}/default").glob("*.mlpackage")
            (found[kind],) = analyse_file(path, INPUTS, {})
    return found


@pytest.mark.parametrize("rule", OPERATORS)
def test_a_fault_is_found_on_inputs_and_named(rule: str, built: dict[str, Headroom]) -> None:
    (finding,) = [each for each in built["faulty"].findings if each.rule == rule]
    assert finding.confidence == ("low" if rule == "zero_division" else "measured")
    assert any(f"({OPERATORS[rule]})" in example for example in finding.examples)


@pytest.mark.parametrize("rule", OPERATORS)
def test_nothing_is_found_where_there_is_no_fault(rule: str, built: dict[str, Headroom]) -> None:
    assert rule not in {finding.rule for finding in built["sound"].findings}


@pytest.mark.parametrize("rule", sorted(PROVEN))
def test_where_the_bounds_prove_it_they_say_so(rule: str, built: dict[str, Headroom]) -> None:
    (said,) = [each for each in built["sound"].statements if each.rule == rule]
    assert said.outcome == "proven"
    assert any(
        f"{rule}: proven not to happen at {said.sites} operator" in line for line in format_headroom(built["sound"])
    )


def test_headroom_is_in_bits(built: dict[str, Headroom]) -> None:
    # given 10 * 300^2, which passes 65504 by 3.8 bits
    (product,) = [
        each
        for each in built["faulty"].operators
        if each.operator == "mul" and each.seen_high == pytest.approx(9e5, rel=1e-3)
    ]
    assert product.bits == pytest.approx(-3.78, abs=0.01)
    assert product.sure_bits == pytest.approx(-3.78, abs=0.01)
    assert not product.proven
    assert built["faulty"].tightest[0].operator == "exp"
    assert built["faulty"].seen_on == "4 draws of noise and 32 stress inputs"


def save(
    tmp_path: Path, build: Callable[..., Any], kind: str, *, shape: tuple[int, ...] = (1, 8), **options: Any
) -> Path:
    return save_program(tmp_path, build, {"x": (shape, kind)}, precision="fp32", **options)


def rules(path: Path, low: float, high: float) -> dict[str, str]:
    """By rule, the confidence of what is found without executing anything."""
    domain = Domain(ranges={"x": (low, high)}, words=(), is_declared=True)
    return {finding.rule: finding.confidence for finding in analyse(path, domain, None).findings}


INFINITE = np.float16(np.inf)
STATIC: dict[str, tuple[str, Callable[..., Any], float, float]] = {
    "half_overflow": ("fp16", lambda x: mb.square(x=x), 300, 30),
    "exp_overflow": ("fp16", lambda x: mb.exp(x=x), 12, 10),
    "half_underflow": ("fp16", lambda x: mb.mul(x=x, y=np.float16(1e-5)), 1, 100),
    "half_constant": ("fp16", lambda x: mb.mul(x=x, y=-INFINITE), 1, 0),
    "integer_cut": ("int32", lambda x: mb.cast(x=x, dtype="int16"), 40000, 30000),
    "saturating_cast": ("fp32", lambda x: mb.cast(x=x, dtype="int32"), 1e10, 1e9),
    "integer_in_float": (
        "int32", lambda x: mb.cast(x=mb.abs(x=mb.cast(x=x, dtype="fp32")), dtype="int32"), 2**25, 2**24,
    ),
    "zero_division": ("fp32", lambda x: mb.inverse(x=mb.sub(x=x, y=np.float32(5)), epsilon=1e-9), 6, 4),
}  # fmt: skip
"""By rule: what is given, a program, and the input's greatest value, with and without a fault (the least is 0)."""


@pytest.mark.parametrize("rule", STATIC)
def test_bounds_alone_find_what_some_input_reaches(rule: str, tmp_path: Path) -> None:
    kind, build, bad, good = STATIC[rule]
    path = save(tmp_path, build, kind)
    assert rules(path, 0, bad)[rule] == "high"
    if rule != "half_constant":
        assert rule not in rules(path, 0, good)
    else:
        assert rule not in rules(path, 1, 2)  # never zero times infinity


def test_nothing_is_called_certain_where_bounds_may_be_too_wide(tmp_path: Path) -> None:
    # given x - x, whose bounds are wide, and which is 0
    def build(x: Any) -> Any:
        return mb.square(x=mb.sub(x=mb.mul(x=x, y=np.float16(2)), y=x))

    assert "half_overflow" not in rules(save(tmp_path, build, "fp16"), 0, 250)


def test_indices_that_do_not_reach_the_end_of_their_axis(tmp_path: Path) -> None:
    def build(x: Any, *, rows: int) -> Any:
        return mb.gather(x=np.zeros((rows, 2), np.float16), indices=mb.cast(x=x, dtype="int16"), axis=0)

    (tmp_path / "far").mkdir()
    far = save(tmp_path / "far", lambda x: build(x, rows=40000), "int32")
    near = save(tmp_path, lambda x: build(x, rows=300), "int32")
    assert rules(far, 0, 299)["integer_cut"] == "medium"
    assert "integer_cut" not in rules(near, 0, 299)


def test_a_counter_in_a_state_stops_and_a_cache_does_not(tmp_path: Path) -> None:
    # given a state to which something is added, and one that forgets
    def build(x: Any, held: Any, sum_: Any) -> Any:
        faded = mb.mul(x=mb.read_state(input=held), y=np.float16(0.9))
        kept = mb.coreml_update_state(state=held, value=mb.add(x=faded, y=x))
        return kept, mb.coreml_update_state(state=sum_, value=mb.add(x=mb.read_state(input=sum_), y=x))

    domain = Domain(ranges={"x": (0.0, 1.0)}, words=(), is_declared=True)
    (finding,) = [
        f for f in analyse(save_stateful(tmp_path, build), domain, None).findings if f.rule == "counter_stops"
    ]
    assert finding.count == 1
    assert "state sum_" in finding.examples[0]


def test_every_rule_is_tried_and_a_recipe_can_accept_it() -> None:
    assert set(OPERATORS) | set(STATIC) == set(RULES)
    assert set(RULE_NAMES) == set(RULES) | set(NEURAL_ENGINE)


def test_what_cannot_be_analysed_is_said(tmp_path: Path) -> None:
    file = tmp_path / "model.mlmodel"
    file.write_bytes(b"nothing")
    (found,) = analyse_file(file, {}, {})
    assert found.not_analysed
    assert format_headroom(found)[0].startswith("numbers: not analysed: ")


def test_of_a_pipeline_its_program_is_looked_at(tmp_path: Path) -> None:
    # given a program in a pipeline, behind a model that only scales
    program = open_package(save(tmp_path, lambda x: mb.square(x=x), "fp32")).specification
    whole = messages("Model_pb2").Model(specificationVersion=program.specificationVersion)
    whole.description.CopyFrom(program.description)
    stages = whole.pipeline.models
    stages.add().CopyFrom(scaler("z", "x", shift=0.0, scale=1.0))
    stages.add().CopyFrom(program)
    file = tmp_path / "pipeline.mlmodel"
    file.write_bytes(whole.SerializeToString())
    # then its values are bounded and seen
    (found,) = analyse_file(file, {"x": {"low": -3, "high": 3}}, {})
    assert found.not_analysed == ""
    (square,) = [each for each in found.operators if each.operator in ("square", "mul")]
    assert (square.high, square.seen_high) == (pytest.approx(9), pytest.approx(9))
