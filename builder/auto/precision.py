"""The fewest operators that must compute in float32 for all checks to pass, found by measured error.

Operators are ranked by the noise that each alone causes at the outputs. The first of them, as many as are needed, are
taken into float32 together with what reads their values; then each is given back that is not needed after all. Every
answer on the way is that of the recipe's own checks on an artifact that was built.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import coreml_runtime as runtime
from builder.analysis.numerics.findings import Range, decibels
from builder.analysis.numerics.graph import Node, computed_in_half, pairs, read_nodes, readers
from builder.analysis.numerics.operators import Comparison, Measured, compare_programs
from builder.analysis.numerics.samples import missed_by
from builder.artifacts.record import Float32Operator
from builder.artifacts.stages import Sample
from builder.auto.attempts import Candidate
from builder.backends import backend_of
from builder.spec.precision import Fp16, Fp32, Mixed

MEASURED = 64
"""For how many operators it is measured what each alone does to the outputs; the others rank by their own error."""
GIVEN_BACK = 24
"""How many builds may try to do with fewer operators."""

_MOVING = frozenset({"expand_dims", "reshape", "slice_by_index", "split", "squeeze", "transpose"})
"""Operators whose values are those that they read."""

Trying = Callable[[str, Fp16 | Fp32 | Mixed], Candidate]
Ranking = Callable[[Comparison, Mapping[str, str]], None]
"""Is given what was measured of each operator, and by an operator's output the path of its module."""


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """A precision, what it keeps in float32 and why, and what could not be met."""

    precision: Fp16 | Fp32 | Mixed
    kept: tuple[Float32Operator, ...] = ()
    notes: tuple[str, ...] = ()


def choose_precision(
    attempt: Trying,
    samples: Callable[[Candidate], Sequence[Sample]],
    modules: Callable[[Candidate], Mapping[str, str]],
    *,
    names: Callable[[Candidate], Mapping[str, str]] = lambda _: {},
    ranking: Ranking | None = None,
    until: float = math.inf,
) -> PrecisionChoice:
    """Find the fewest operators; `modules` maps an operator's output to the path of its module, `names` to its name.

    `ranking` is given what was measured; after `until` (of `time.monotonic`) no more operators are.

    They are ranked on the samples and outputs for which float16 misses the limits. Where float32 does not pass either,
    the better of the two is taken, so that the checks say by how much it misses.
    """
    half = attempt("float16", Fp16(kind="fp16"))
    if half.passes:
        return PrecisionChoice(precision=half.spec.precision)  # type: ignore[arg-type]  # not `auto`
    full = attempt("everything in float32", Mixed(kind="mixed", fp32_names=["*"]))
    if not full.passes:
        better = full if (full.failures, -full.snr_db) < (half.failures, -half.snr_db) else half
        kept = half.spec.precision if better is half else Fp32(kind="fp32")
        note = f"precision auto: everything in float32 does not pass the checks either; {kept.kind} is no worse"
        return PrecisionChoice(precision=kept, notes=(note,))  # type: ignore[arg-type]  # nor here
    feeds = backend_of(half.spec.format).feeds
    inputs = [feeds(sample, half.spec) for sample in samples(half)]
    compared = compare_programs(
        runtime.load(half.path),
        runtime.load(full.path),
        inputs,
        candidates=MEASURED,
        outputs=missed_by(half.reports).outputs,
        until=until,
        pairs=pairs(half.path, full.path),
    )
    if ranking is not None:
        ranking(compared, modules(full))
    program = _Program(
        nodes=read_nodes(full.path),
        ranges=compared.ranges,
        half=computed_in_half(half.path, full.path, compared.operators),
        names=names(full),
    )
    groups = [group for each in _ranked(compared) if (group := program.around(each.name))]
    found = _fewest(groups, program, attempt)
    if found is None:
        return PrecisionChoice(precision=full.spec.precision, notes=(_NO_FEWER,))  # type: ignore[arg-type]  # nor here
    chosen = _without_needless(found, program.fatal(compared), program, attempt)
    return PrecisionChoice(precision=program.keeping(chosen), kept=_kept(chosen, program, compared, modules(full)))


_NO_FEWER = "precision auto: no part of the operators that was tried passes the checks, so all are in float32"


def _describe(names: Sequence[str]) -> str:
    return f"{len(names)} operator{'s' if len(names) > 1 else ''} in float32"


@dataclass(frozen=True, kw_only=True)
class _Program:
    """The program in float32, as far as it matters what belongs together."""

    nodes: Sequence[Node]
    ranges: Mapping[str, Range]
    half: frozenset[str]
    """What computes in half unless a recipe says otherwise."""
    names: Mapping[str, str] = field(default_factory=dict)
    """By operator, how a recipe names it; none where it bears that name. Several may be one for a recipe."""

    @cached_property
    def _first(self) -> Mapping[str, str]:
        """By operator, the first one of those that a recipe names alike; only those that it can name."""
        found: dict[str, str] = {}
        firsts: dict[str, str] = {}
        for output in (output for node in self.nodes for output in node.outputs):
            name = self.names.get(output) if self.names else output
            if name is not None:
                found[output] = firsts.setdefault(name, output)
        return found

    def members(self, name: str) -> list[str]:
        """The operators that a recipe names like this one, itself among them."""
        return [each for each, first in self._first.items() if first == self._first[name]]

    def called(self, name: str) -> str:
        """How a recipe names an operator."""
        return self.names.get(name, name)

    def keeping(self, chosen: Sequence[str]) -> Mixed:
        """The precision that keeps these operators in float32."""
        return Mixed(kind="mixed", fp32_names=[glob.escape(self.called(name)) for name in chosen])

    def around(self, name: str) -> frozenset[str]:
        """An operator, and what reads its value: cast to half for a reader, a value is as wrong as before.

        What half cannot hold passes on: the readers of such a value need float32 to make a smaller one of it, and so
        do theirs where their values do not fit either.
        """
        wanted, waiting = {name}, [name]
        while waiting:
            read = {output for node in readers(self.nodes, waiting.pop()) for output in node.outputs} - wanted
            wanted |= read
            waiting += sorted(each for each in read if each in self.ranges and self.ranges[each].is_unfit)
        return frozenset(self._first[each] for each in wanted & self.half if each in self._first)

    def fatal(self, compared: Comparison) -> frozenset[str]:
        """What in half alone leaves no finite number at the outputs, and what only moves such values.

        That was measured of what computes them; a reshape rounds nothing, so nothing is measured at it.
        """
        found = {each.name for each in compared.measured if each.noise == math.inf}
        for node in self.nodes:
            if node.type in _MOVING and node.inputs & found:
                found |= {each for each in node.outputs if each in self.ranges and self.ranges[each].overflow}
        return frozenset(self._first[each] for each in found if each in self._first)

    def read_by(self, name: str) -> list[str]:
        """What an operator reads."""
        return sorted(each for node in self.nodes if name in node.outputs for each in node.inputs)

    def ordered(self, names: frozenset[str]) -> list[str]:
        """Names in the order in which they are computed."""
        return [output for node in self.nodes for output in node.outputs if output in names]


def _ranked(compared: Comparison) -> list[Measured]:
    """By what each alone does to the outputs, the worst first; behind those the others by their own error."""
    noisy = [each for each in compared.measured if each.own_noise > 0]
    best: dict[str, Measured] = {}
    for each in sorted(noisy, key=lambda each: (each.noise is None, -(each.noise or 0.0), -each.own_noise)):
        best.setdefault(each.name, each)  # of a value and its casts, the worst
    return [each for each in best.values() if each.noise is None or each.noise > 0]


def _fewest(groups: Sequence[frozenset[str]], program: _Program, attempt: Trying) -> frozenset[str] | None:
    """The union of the first groups that passes, the smallest one by doubling and halving; None where none does."""
    unions = [frozenset[str]().union(*groups[:count]) for count in range(1, len(groups) + 1)]
    unions = [union for place, union in enumerate(unions) if place == 0 or union != unions[place - 1]]

    def passes(place: int) -> bool:
        names = program.ordered(unions[place])
        return attempt(_describe(names), program.keeping(names)).passes

    failed, step = -1, 1
    while True:
        place = min(failed + step, len(unions) - 1)
        if place <= failed:
            return None
        if passes(place):
            break
        failed, step = place, step * 2
    while place - failed > 1:
        middle = (place + failed) // 2
        if passes(middle):
            place = middle
        else:
            failed = middle
    return unions[place]


def _without_needless(names: frozenset[str], fatal: frozenset[str], program: _Program, attempt: Trying) -> list[str]:
    """Give back to half what the checks do not miss: large parts first, then single operators.

    What is `fatal` alone (no finite number is left at the outputs) needs no build to tell that it must stay.
    """
    kept = program.ordered(names)
    open_ = [name for name in kept if name not in fatal]
    left, size = GIVEN_BACK, max(len(open_) // 2, 1)
    while True:
        place = 0
        while place < len(open_) and left and len(kept) > 1:
            part = open_[place : place + size]
            fewer = [name for name in kept if name not in part]
            left -= 1
            if fewer and attempt(_describe(fewer), program.keeping(fewer)).passes:
                kept, open_ = fewer, open_[:place] + open_[place + size :]
            else:
                place += size
        if size == 1 or not left:
            return kept
        size = max(size // 2, 1)


def _kept(
    names: Sequence[str], program: _Program, compared: Comparison, modules: Mapping[str, str]
) -> tuple[Float32Operator, ...]:
    noise = {each.name: each.noise for each in compared.measured if each.noise is not None}

    def kept(name: str) -> Float32Operator:
        loudest = max(program.members(name), key=lambda each: noise.get(each, -1.0))
        return Float32Operator(
            name=program.called(name),
            operator=compared.operators.get(loudest, ""),
            module=modules.get(loudest, ""),
            reason=_reason(name, noise.get(loudest), program),
        )

    return tuple(kept(name) for name in names)


def _reason(name: str, noise: float | None, program: _Program) -> str:
    members = program.members(name)
    read = [each for member in members for each in program.read_by(member) if each not in members]
    for value, what in (*((each, "its values") for each in members), *((each, program.called(each)) for each in read)):
        found = program.ranges.get(value)
        if found is not None and found.is_unfit:
            share = f"{found.overflow:.2%} are beyond 65504" if found.overflow else f"{found.denormal:.2%} lose bits"
            reads = "" if value in members else "reads "
            return f"{reads}{what}, of which {share} (at most {found.largest:.3g})"
    if noise is None or noise == 0:
        return "reads a value that must stay whole"
    snr_db = decibels(noise)
    if snr_db == float("-inf"):
        return "in float16 alone it leaves no finite numbers"
    return f"in float16 alone it leaves an SNR of {snr_db:.1f} dB"
