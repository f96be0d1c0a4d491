"""Functions of an ONNX file do not fill the memory while they are put in where they are called."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from builder.errors import SourceError
from builder.model.sources.archives import RefusedArchiveError
from builder.model.sources.onnx_graph import refuse_growing_functions

onnx = pytest.importorskip("onnx")
helper: Any = onnx.helper
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]


def function(name: str, called: list[str], *, nested: bool = False) -> Any:
    """Calls functions one after the other, in the branches of an `If` where they are nested."""
    nodes = [helper.make_node(each, ["a"], [f"b{number}"], domain="f") for number, each in enumerate(called)]
    nodes = nodes or [helper.make_node("Neg", ["a"], ["b0"])]
    if nested:
        branch = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("b0", 1, None)])
        nodes = [helper.make_node("If", ["a"], ["b0"], then_branch=branch, else_branch=branch)]
    return helper.make_function("f", name, ["a"], ["b0"], nodes, OPSETS)


def model(functions: list[Any]) -> Any:
    x, y = (helper.make_tensor_value_info(name, 1, [1, 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("F0", ["x"], ["y"], domain="f")], "g", [x], [y])
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8, functions=functions)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("times", [2, 10])
def test_functions_that_double_are_refused(times: int, tmp_path: Path, *, nested: bool) -> None:
    functions = [function(f"F{i}", [f"F{i + 1}"] * times, nested=nested) for i in range(40)]
    began = time.process_time()
    with pytest.raises(RefusedArchiveError, match="more than 5000000 operators"):
        refuse_growing_functions(model([*functions, function("F40", [])]))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("circle", [["F0"], ["F1", "F0"], ["F1", "F2", "F0"]])
def test_functions_that_call_themselves_are_refused(circle: list[str]) -> None:
    functions = [function(f"F{number}", [name]) for number, name in enumerate(circle)]
    with pytest.raises(RefusedArchiveError, match=re.escape("calls itself")):
        refuse_growing_functions(model(functions))


def test_such_a_file_is_explained(tmp_path: Path) -> None:
    from builder.data import make_examples
    from builder.model.sources import load_source
    from builder.progress import Silent
    from builder.spec import BuildSpec

    onnx.save(model([function("F0", ["F0"])]), tmp_path / "m.onnx")
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "onnx", "file": str(tmp_path / "m.onnx")},
            "input": {"x": {"kind": "tensor", "shape": [1, 8]}},
            "precision": {"kind": "fp32"},
            "target": {"name": "ios16"},
            "tracking": {"kind": "none"},
        }
    )
    with pytest.raises(SourceError, match="calls itself"):
        load_source(spec, make_examples(spec), Silent())


def test_honest_functions_pass() -> None:
    refuse_growing_functions(model([function("F0", ["F1", "F1"]), function("F1", [], nested=True)]))
