"""Small ML programs, made with coremltools' builder and saved, for tests to load."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import coremltools as ct
from coremltools.converters.mil import mil
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from coremltools.converters.mil.mil import Function, types

TYPES = {"fp32": types.fp32, "fp16": types.fp16, "int32": types.int32, "bool": types.bool}
TARGETS = {
    "ios15": ct.target.iOS15, "ios16": ct.target.iOS16, "ios17": ct.target.iOS17, "ios18": ct.target.iOS18,
}  # fmt: skip


def save_program(
    folder: Path,
    build: Callable[..., Any],
    values: Mapping[str, tuple[tuple[int, ...], str]],
    *,
    opset: str = "ios17",
    precision: str = "fp32",
    **options: Any,
) -> Path:
    """Convert and save what `build` makes of values given as (shape, type); the outputs are y0, y1 and so on."""
    program = mil.Program()
    placeholders = {name: mb.placeholder(shape=shape, dtype=TYPES[kind]) for name, (shape, kind) in values.items()}
    with Function(placeholders, opset_version=TARGETS[opset]) as function:
        made = build(**function.inputs)
        outputs = [
            mb.identity(x=each, name=f"y{i}") for i, each in enumerate(made if isinstance(made, tuple) else [made])
        ]
        function.set_outputs(outputs)
        program.add_function("main", function)
    path = folder / "model.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # coremltools leaves its temporary folders to the collector
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=TARGETS[opset],
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            skip_model_load=True,
            **options,
        )
        model.save(str(path))
        del model
    return path
