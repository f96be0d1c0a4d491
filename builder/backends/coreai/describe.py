"""What an `.aimodel` says of itself: functions with inputs, outputs and states, operators, bytes of weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def operators(asset: Path) -> dict[str, int]:
    """How many operators of each kind, without constants and structure; in the child."""
    from builder.backends.coreai import adapter

    program = adapter.load_program(asset)
    module = adapter.module_of(program)
    with module.context:
        counts = Counter(adapter.plain_name(op) for op in adapter.walk(module.operation))
    structure = ("constant", "output", "graph", "yield", "invoke", "create_token", "join_token")
    return {name: count for name, count in sorted(counts.items()) if name not in structure}


def _unused(mapping: Mapping[str, Any]) -> None:
    """Placeholder for the full description."""
