"""Modules at hand: what they take is found by running them on what their first layer suggests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from builder.analysis.init.draft import Draft
from builder.analysis.init.named import CLASSIFIER
from builder.model.calling import call_model, parameter_names
from builder.model.sources.python import make_module
from builder.util.bounded import bounded

SIDES = (224, 256, 299, 32, 28, 64, 96, 128, 384, 512)
"""Heights and widths that are tried, the commonest first."""

MOST_SECONDS = 60
"""Of each processor that a try may take."""
WHY_RUN = "the model to find what it takes (a recipe that is written by hand needs no try)"

UNIT = 0.00392156862745098

LEVELS = (
    "Levels of 0 to 1, as torchvision's ToTensor gives. Where training used Normalize as well, write its `mean` and "
    "`std` instead of `scale`."
)


def inspect_factory(factory: str, name: str) -> Draft:
    """A user's factory: `package.module:function`, called without arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make_module(factory, {}).eval()
    inputs, why = describe_inputs(module)
    return Draft(
        name=name,
        title=f"The model that {factory} makes.",
        source={"kind": "python", "factory": factory},
        inputs=inputs,
        why={"source.factory": "Called without arguments; `arguments: {…}` passes some.", **why},
        suggestions=CLASSIFIER,
    )


def describe_inputs(module: torch.nn.Module) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The input section for a module and the reasons, by trying; a guess that says so where nothing runs."""
    numbers = numbers_of(module)
    names = tuple(name for name in required_inputs(module) if name not in numbers)
    constants = {name: {"constant": value} for name, value in numbers.items()}
    chosen = {f"input.{name}.constant": CHOSEN for name in numbers}
    if len(names) == 1:
        for tensor, given in _candidates(module):
            with bounded(WHY_RUN, seconds=MOST_SECONDS):
                is_taken = runs(module, (*names, *numbers), tensor, *numbers.values())
            if is_taken:
                name = "image" if given["kind"] == "image" and not numbers else names[0]
                key = f"input.{name}"
                return {name: given, **constants}, chosen | {
                    f"{key}.shape": "Found by trying sizes: the first that the model ran on.",
                    f"{key}.scale": LEVELS,
                    f"{key}.high": "The examples of the checks are drawn from 0 to below this: the size of the table.",
                }
    guess = {name: {"kind": "tensor", "shape": [1, 3, 224, 224]} for name in names or ("input",)}
    message = "A GUESS: the model ran on nothing that was tried. Write the shape (and dtype) that its forward takes."
    return guess | constants, chosen | {f"input.{next(iter(guess))}.shape": message}


CHOSEN = "A GUESS: forward takes a number, and the artifact is made for this one. Write yours."


def numbers_of(module: torch.nn.Module) -> dict[str, object]:
    """The parameters of a compiled forward that are numbers, which an artifact has baked in, with a value to try."""
    if not isinstance(module, torch.jit.ScriptModule):
        return {}
    forward: Any = module.forward
    values = {"int": 1, "float": 1.0, "bool": False}
    required = [a for a in forward.schema.arguments[1:] if not a.has_default_value()]
    return {a.name: values[str(a.type)] for a in required if str(a.type) in values}


def required_inputs(module: torch.nn.Module) -> tuple[str, ...]:
    """The parameters of forward without a default value."""
    import inspect

    if isinstance(module, torch.jit.ScriptModule):
        forward: Any = module.forward
        return tuple(a.name for a in forward.schema.arguments[1:] if not a.has_default_value())
    parameters = inspect.signature(module.forward).parameters
    named = parameter_names(module)
    return tuple(name for name in named if parameters[name].default is inspect.Parameter.empty)


def runs(module: torch.nn.Module, names: tuple[str, ...], tensor: torch.Tensor, *numbers: object) -> bool:
    """Whether the model takes this tensor, and these numbers."""
    try:
        with torch.no_grad():
            return call_model(module, names, [tensor, *numbers]) is not None
    except Exception:  # a user's model raises what it likes on a shape that it does not take
        return False


def _candidates(module: torch.nn.Module) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
    """Tensors to try with their input sections: what the first weight takes, then pictures of 3 and 1 channels."""
    weights = [(name, value) for name, value in module.state_dict().items() if name.endswith("weight")]
    first = next((tuple(value.shape) for _, value in weights if value.ndim >= 2), ())
    channels = [first[1]] if len(first) == 4 else [3, 1]
    if len(first) == 2:
        yield torch.zeros(1, first[1]), {"kind": "tensor", "shape": [1, first[1]]}
        yield (
            torch.zeros(1, 16, dtype=torch.int32),
            {"kind": "tensor", "shape": [1, 16], "dtype": "int32", "high": first[0]},
        )
        yield torch.zeros(1, 16, first[1]), {"kind": "tensor", "shape": [1, 16, first[1]]}
    if len(first) == 3:
        yield torch.zeros(1, first[1], 1024), {"kind": "tensor", "shape": [1, first[1], 1024]}
    for count in channels:
        for side in SIDES:
            yield torch.zeros(1, count, side, side), picture([1, count, side, side])


def picture(shape: list[int]) -> dict[str, Any]:
    """The section of a picture with levels of 0 to 1, or of an array where the channels are not colours."""
    if shape[1] not in (1, 3):
        return {"kind": "tensor", "shape": shape}
    return {"kind": "image", "shape": shape, "color_layout": "RGB" if shape[1] == 3 else "G", "scale": UNIT}
