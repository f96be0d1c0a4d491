"""A small ML program with two states, made with coremltools' builder and saved, for tests to load."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
from coremltools.converters.mil import mil
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from coremltools.converters.mil.mil import Function, types


def save_stateful(folder: Path, build: Callable[..., Any]) -> Path:
    """Convert and save what `build` makes of `x` (1, 4) and the states `held` and `sum_`; the outputs are y0 and y1."""
    program = mil.Program()
    states = {name: mb.state_tensor_placeholder((1, 4), dtype=types.fp16) for name in ("held", "sum_")}
    with Function({"x": mb.placeholder((1, 4), dtype=types.fp16), **states}, opset_version=ct.target.iOS18) as function:
        made = build(**function.inputs)
        function.set_outputs([mb.identity(x=each, name=f"y{i}") for i, each in enumerate(made)])
        program.add_function("main", function)
    path = folder / "model.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # coremltools leaves its temporary folders to the collector
        model = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18, skip_model_load=True,
            compute_precision=ct.precision.FLOAT32,
        )  # fmt: skip
        model.save(str(path))
        del model
    return path
