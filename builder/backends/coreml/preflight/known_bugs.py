"""Known wrong results of coremltools: conversions that succeed and compute something else, and which models do so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from packaging.version import Version

from builder.backends.coreml.preflight.obstacles import Obstacle, gather
from builder.backends.coreml.preflight.operators import Operator
from builder.spec import BuildSpec
from builder.spec.compression import Palettize


@dataclass(frozen=True, kw_only=True)
class KnownBug:
    """One of them."""

    issue: int | None
    """Of apple/coremltools; None where none was found that tells it."""
    title: str
    """The operators, or what else it is about."""
    what: str
    """Completes the title."""
    fixed_in: str | None
    """The first version that is right, None where there is none yet."""
    meets: Callable[[Sequence[Operator], BuildSpec, str], Iterator[Operator]] | None = None
    """The operators of a program, captured by a method for a recipe, that run into it."""
    compressed: Callable[[BuildSpec], bool] | None = None
    """Whether the recipe's compression does."""
    sure: bool = False
    """Whether the result is wrong for all inputs, rather than for some."""

    @property
    def summary(self) -> str:
        """All of it, with its issue."""
        sentence = f"{self.title} {self.what}"
        return sentence if self.issue is None else f"{sentence} (apple/coremltools#{self.issue})"


def _ignored_factors(operators: Sequence[Operator], spec: BuildSpec, method: str) -> Iterator[Operator]:  # noqa: ARG001
    if method == "export":
        yield from (o for o in operators if o.name in ("add", "sub", "rsub") and o.alpha not in (None, 1))


def _powers_of_two(operators: Sequence[Operator], spec: BuildSpec, method: str) -> Iterator[Operator]:  # noqa: ARG001
    yield from (o for o in operators if o.name == "pow" and o.overload == "Scalar" and 2 in o.constants)
    yield from (o for o in operators if o.name == "exp2")


def _triangles(operators: Sequence[Operator], spec: BuildSpec, method: str) -> Iterator[Operator]:  # noqa: ARG001
    if any(math.isinf(c) for o in operators for c in o.constants if isinstance(c, float)):
        for operator in operators:
            fact = operator.inputs[0] if operator.inputs else None
            whole = fact is not None and fact.dtype is not None and not fact.dtype.is_floating_point
            offset = next((c for c in operator.constants if isinstance(c, int)), 0)
            beside = (operator.name == "triu" and offset > 0) or (operator.name == "tril" and offset < 0)
            if beside and not whole:
                yield operator


def _rounded_integers(operators: Sequence[Operator], spec: BuildSpec, method: str) -> Iterator[Operator]:  # noqa: ARG001
    for operator in operators:
        whole = [f.dtype for f in operator.inputs if f is not None and f.dtype is not None]
        rounds = operator.name == "div" and "mode" in operator.overload
        if rounds and whole and not any(dtype.is_floating_point for dtype in whole):
            yield operator


def _arguments_of_all(operators: Sequence[Operator], spec: BuildSpec, method: str) -> Iterator[Operator]:  # noqa: ARG001
    for operator in operators:
        fact = operator.inputs[0] if operator.inputs else None
        flat = fact is not None and fact.shape is not None and len(fact.shape) < 2
        if (
            operator.name in ("argmax", "argmin")
            and not flat
            and not any(isinstance(c, int) for c in operator.constants)
        ):
            yield operator


KNOWN_BUGS = (
    KnownBug(
        issue=2680,
        title="`add` and `sub`",
        what="lose their factor `alpha` in an exported program",
        fixed_in="9.1",
        meets=_ignored_factors,
        sure=True,
    ),
    KnownBug(
        issue=2742,
        title="`2**x`",
        what="with the constant base 2 is computed as a square by Core ML",
        fixed_in="9.1",
        meets=_powers_of_two,
        sure=True,
    ),
    KnownBug(
        issue=2669,
        title="masks",
        what="with a number near float32's limits give NaN in half precision where all is masked; builder makes such "
        "masks finite",
        fixed_in="9.1",
    ),
    KnownBug(
        issue=2771,
        title="`triu` and `tril`",
        what="of infinite values give NaN outside of the triangle",
        fixed_in="9.1",
        meets=_triangles,
        sure=True,
    ),
    KnownBug(
        issue=2734,
        title="`div`",
        what="of integers with a rounding mode gives floats",
        fixed_in="9.1",
        meets=_rounded_integers,
    ),
    KnownBug(
        issue=None,
        title="`argmax` and `argmin`",
        what="without `dim` look along the last dimension only, and not through all values",
        fixed_in=None,
        meets=_arguments_of_all,
        sure=True,
    ),
    KnownBug(
        issue=2716,
        title="4-bit palettised weights",
        what="are wrong, or crash, on some Neural Engines",
        fixed_in=None,
        compressed=lambda spec: any(isinstance(s, Palettize) and s.nbits == 4 for s in spec.compression.values()),
    ),
    KnownBug(
        issue=2724,
        title="calibration of activations",
        what="keeps the range of the last sample only; builder measures ranges itself",
        fixed_in="9.1",
    ),
)


def bugs_here() -> tuple[KnownBug, ...]:
    """Those that the installed coremltools has."""
    installed = Version(metadata.version("coremltools"))
    return tuple(bug for bug in KNOWN_BUGS if bug.fixed_in is None or installed < Version(bug.fixed_in))


def bugs_met(operators: Sequence[Operator], spec: BuildSpec, method: str, ours: Sequence[Operator]) -> list[Obstacle]:
    """Those that a program runs into, but for operators that a lowering of ours converts."""
    obstacles: list[Obstacle] = []
    for bug in bugs_here():
        if bug.meets is not None:
            met = [
                (o, f"meets a known bug: {bug.summary}")
                for o in bug.meets(operators, spec, method)
                if not any(o is mine for mine in ours)
            ]
            obstacles += gather("bug", met, "distorts" if bug.sure else "note")
        elif bug.compressed is not None and bug.compressed(spec):
            obstacles.append(
                Obstacle(rule="bug", what=f"the compression meets a known bug: {bug.summary}", severity="note")
            )
    return obstacles
