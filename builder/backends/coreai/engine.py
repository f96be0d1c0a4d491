"""Apple's own interpreter in the child process: executes an `.aimodel` on the CPU, and says what that proves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.backends.coreai.child import call

NAME = "coreai/cpu-interpreter"
"""What reports call it; it says nothing of the GPU or the Neural Engine."""

Arrays = Mapping[str, Any]

_SECONDS = 1800.0
"""For one call, which may be many predictions of a large model; Apple's interpreter is slow."""


def predict(
    asset: Path,
    samples: Sequence[Arrays],
    *,
    state: Arrays | None = None,
    function: str = "main",
    seconds: float = _SECONDS,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Execute `function` on each sample in turn; return the outputs of each, and the states after the last.

    `state` holds the states before the first, which go from sample to sample. Raises ChildError for inputs that the
    function does not take, a damaged file and a hang.
    """
    given = [{name: np.ascontiguousarray(value) for name, value in sample.items()} for sample in samples]
    result: tuple[list[dict[str, Any]], dict[str, Any]] = call(
        "engine:run", str(asset), given, dict(state or {}), function, seconds=seconds
    )
    return result


def run(
    asset: str, samples: Sequence[Arrays], state: Arrays, function: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What `predict` does, in the child."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    async def execute() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        async with AIModelAsset.load(Path(asset)).executable() as model:
            loaded = model.load_function(function)
            states = {name: NDArray(np.ascontiguousarray(value)) for name, value in state.items()}
            outputs = []
            for sample in samples:
                feeds = {name: NDArray(value) for name, value in sample.items()}
                found = await loaded(feeds, states) if states else await loaded(feeds)
                outputs.append({name: value.numpy().copy() for name, value in found.items()})
            return outputs, {name: value.numpy().copy() for name, value in states.items()}

    return asyncio.run(execute())
