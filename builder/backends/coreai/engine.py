"""Apple's own interpreter in the child process: executes an `.aimodel` on the CPU, and says what that proves."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from builder.backends.coreai.child import call
from builder.backends.coreai.sealing import PROGRAM
from builder.backends.interface import Engine

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from coreai.runtime import InferenceFunction

NAME = "coreai/cpu-interpreter"
"""What reports call it; it says nothing of the GPU or the Neural Engine."""

Arrays = Mapping[str, np.ndarray]

_SECONDS = 1800.0
"""For one call, which may be many predictions of a large model; Apple's interpreter is slow."""


def predict(
    asset: Path,
    samples: Sequence[Arrays],
    *,
    state: Arrays | None = None,
    function: str = "main",
    seconds: float = _SECONDS,
) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Execute `function` on each sample in turn; return the outputs of each, and the states after the last.

    `state` holds the states before the first, which go from sample to sample. Raises ChildError for inputs that the
    function does not take, a damaged file and a hang.
    """
    given = [{name: np.ascontiguousarray(value) for name, value in sample.items()} for sample in samples]
    result: tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]] = call(
        "engine:run", str(asset.absolute()), given, dict(state or {}), function, seconds=seconds
    )
    return result


def run(
    asset: str, samples: Sequence[Arrays], state: Arrays, function: str
) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """What `predict` does, in the child."""
    from coreai.runtime import NDArray

    async def execute(loaded: InferenceFunction) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        states = {name: NDArray(np.ascontiguousarray(value)) for name, value in state.items()}
        outputs = []
        for sample in samples:
            feeds = {name: NDArray(value) for name, value in sample.items()}
            found = await loaded(feeds, states) if states else await loaded(feeds)
            outputs.append({name: value.numpy().copy() for name, value in found.items()})
        return outputs, {name: value.numpy().copy() for name, value in states.items()}

    program = Path(asset) / PROGRAM
    stat = program.stat()
    opened = _opened(asset, stat.st_mtime_ns, stat.st_size)
    return opened.loop.run_until_complete(execute(opened.model.load_function(function)))


class _Opened:
    """A loaded asset, which stays open from call to call: lowering it takes longer than a prediction."""

    def __init__(self, asset: str) -> None:
        from coreai.authoring import AIModelAsset

        self.loop = asyncio.new_event_loop()
        self._context = AIModelAsset.load(Path(asset)).executable()
        self.model = self.loop.run_until_complete(self._context.__aenter__())
        weakref.finalize(self, _close, self.loop, self._context)


def _close(loop: asyncio.AbstractEventLoop, context: AbstractAsyncContextManager[object]) -> None:
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()


@lru_cache(maxsize=1)
def _opened(asset: str, modified: int, size: int) -> _Opened:  # noqa: ARG001 - another file is another model
    return _Opened(asset)


def close_opened() -> None:
    """Close the asset that stays open."""
    _opened.cache_clear()


FEW = 2
"""For how many samples Apple's interpreter confirms what our runtime measures on all."""


def interpreter(asset: Path, function: str) -> Engine:
    """Apple's interpreter as checks use it; states are kept under the engine's name."""

    def open_states(states: dict[str, Any]) -> Callable[[Arrays], Arrays]:
        kept = states.setdefault(NAME, _zeros(asset, function))

        def run_one(feeds: Arrays) -> Arrays:
            (found,), after = predict(asset, [feeds], state=kept, function=function or "main")
            kept.update(after)
            return found

        return run_one

    return Engine(name=NAME, open=open_states, samples=FEW)


def _zeros(asset: Path, function: str) -> dict[str, np.ndarray]:
    """The states of a function as an app makes them."""
    from builder.backends.coreai.description import describe_artifact

    described = describe_artifact(asset)
    states = described.functions[function]["states"] if function else described.states
    return {state["name"]: np.zeros(state["shape"], state["dtype"]) for state in states if state["kind"] == "state"}
