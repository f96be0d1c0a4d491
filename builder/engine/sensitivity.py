"""The sensitivity of layers as the store keeps it, so that another limit need not measure it again.

It is not a stage of a build: the choose stage asks for it, and `builder.auto.sensitivity` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from builder.engine.runner import Packed, StageTask
from builder.store.digests import digest_of

Layers = dict[str, Any]
"""What was measured, in plain values."""


def sensitivity(after: Mapping[str, str], run: Callable[[], Layers]) -> StageTask[Layers]:
    """What `run` measures on the artifacts whose digests `after` names."""
    return StageTask(
        name="sensitivity",
        run=run,
        say=lambda layers: f"{len(layers['layers'])} layers",
        pack=lambda layers, _: Packed(output=digest_of(layers), record=layers),
        unpack=lambda stage: dict(stage.record),
        after=after,
    )
