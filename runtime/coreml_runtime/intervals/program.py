"""From the file of an ML program to the intervals of all its operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from coreml_runtime.features import ImageFeature, read_interface
from coreml_runtime.intervals.interval import Interval, everywhere, of_input
from coreml_runtime.intervals.visit import Visit
from coreml_runtime.intervals.walk import walk
from coreml_runtime.mlprogram import read_program
from coreml_runtime.ops import operators
from coreml_runtime.ops.context import UNKNOWN_RANK, TensorType
from coreml_runtime.package import open_package, program_package
from coreml_runtime.program import StateType

LEVELS = (0.0, 255.0)
"""What the pixels of a picture are."""


def read_visits(path: Path, ranges: Mapping[str, tuple[float, float]], *, function: str | None = None) -> list[Visit]:
    """The operators of an ML program in their order, with the intervals of what they take and give.

    Of a pipeline it is the first program. `ranges` are the least and the greatest value of each array input; those of
    pictures are known, and of an input without one nothing is. Raises UnsupportedError where there is no program, and
    ModelError for a damaged file.
    """
    package = program_package(open_package(path))
    description = package.specification.description
    described = {entry.name: entry for entry in description.functions}
    name = function or description.defaultFunctionName or "main"
    functions = {each: read_program(package, each) for each in (*(described or ()), name)}
    stateless = not any(isinstance(entry.type, StateType) for each in functions.values() for entry in each.inputs)
    functions = {name: functions[name]} if stateless else functions
    given: dict[str, dict[str, Interval]] = {name: {} for name in functions}
    for each, program in functions.items():
        features = read_interface(described.get(each, description)).inputs
        for entry in program.inputs:
            found = LEVELS if isinstance(features.get(entry.name), ImageFeature) else ranges.get(entry.name)
            if found is not None and isinstance(entry.type, TensorType) and entry.type.shape != UNKNOWN_RANK:
                bounds = everywhere(*found, entry.type.shape)
                given[each][entry.name] = of_input(entry.name, bounds.low, bounds.high, entry.type.shape)
    with torch.inference_mode():
        return walk(functions, operators(), given)[name]
