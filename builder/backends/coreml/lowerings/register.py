"""Lowerings of ours in coremltools' registry, for as long as one conversion lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from builder.artifacts.stages import UsedLowering
from builder.backends.coreml.lowerings.binding import applies_to, run_lowering
from builder.backends.coreml.lowerings.definitions import DEFINED, WHY, definitions_tried
from builder.backends.coreml.lowerings.lowering import Convert, Lowering
from builder.backends.coreml.lowerings.table import LOWERINGS

if TYPE_CHECKING:
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
    from packaging.version import Version


@contextmanager
def registered_lowerings(table: Mapping[str, Lowering] = LOWERINGS) -> Iterator[Counter[str]]:
    """Teach coremltools the operators that it lacks or gets wrong; yields how often each of ours was used.

    One that it has stays its own, unless the entry says in which cases that one does not do.
    """
    from coremltools.converters.mil.frontend.torch import ops  # noqa: F401 - fills the registry
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    known = _TORCH_OPS_REGISTRY.name_to_func_mapping
    used: Counter[str] = Counter()
    before = dict(known)
    known.update(
        {
            name: partial(_convert, lowering, before.get(name), used)
            for name, lowering in table.items()
            if name not in before or replaces_upstream(lowering)
        }
    )
    try:
        with definitions_tried(used):
            yield used
    finally:
        known.clear()
        known.update(before)


def uses(used: Counter[str], table: Mapping[str, Lowering] = LOWERINGS) -> tuple[UsedLowering, ...]:
    """What the record keeps of `used`."""
    return tuple(
        UsedLowering(operator=name.removesuffix(DEFINED), why=_why(name, table), times=used[name])
        for name in sorted(used)
    )


def _why(name: str, table: Mapping[str, Lowering]) -> str:
    return WHY if name.endswith(DEFINED) else table[name].why


def replaces_upstream(lowering: Lowering) -> bool:
    """Whether ours takes cases over from a lowering that the installed coremltools has."""
    if lowering.wrong is None or lowering.wrong.fixed_in is None:
        return lowering.upstream_gap is not None or lowering.wrong is not None
    from packaging.version import Version

    return _installed() < Version(lowering.wrong.fixed_in)


@cache
def _installed() -> Version:
    """The version of coremltools, which takes a file to find out; each conversion asks for many operators."""
    from importlib.metadata import version

    from packaging.version import Version

    return Version(version("coremltools"))


def _convert(
    lowering: Lowering,
    upstream: Convert | None,
    used: Counter[str],
    context: TranscriptionContext,
    node: InternalTorchIRNode,
) -> None:
    if upstream is not None and not applies_to(lowering, context, node):
        upstream(context, node)
        return
    run_lowering(lowering, context, node)
    used[lowering.operator] += 1
