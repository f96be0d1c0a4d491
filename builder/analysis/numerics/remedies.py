"""The change to the recipe that would take a suspect's error away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from builder.analysis.numerics.findings import Range
from builder.analysis.numerics.graph import Node, decompressed, readers
from builder.analysis.numerics.operators import Measured
from builder.artifacts.stages import SubstitutionEffect, UsedLowering
from builder.spec import BuildSpec
from builder.spec.compression import Palettize
from builder.spec.precision import Fp32, Mixed

_KEPT = ("fp32_op_types", "fp32_names", "fp32_modules", "fp32_op_types_if_present")


@dataclass(frozen=True, kw_only=True)
class RemedyContext:
    """What a remedy depends on, besides the suspect."""

    spec: BuildSpec
    artifact: Sequence[Node]
    reference: Sequence[Node]
    ranges: Mapping[str, Range]
    changed: Mapping[str, Sequence[str]]
    """By compression step, what it changed."""
    modules: Mapping[str, str]
    """By operator's output in the reference, the path of its module."""


def operator_remedy(measured: Measured, modules: Sequence[str], around: RemedyContext) -> str:
    """More precision where half cannot hold the values, else milder compression where there is any."""
    found = around.ranges.get(measured.name)
    precise = not isinstance(around.spec.precision, Fp32)
    unfit = found is not None and found.is_unfit
    compressed = _compression(measured, modules, around)
    if compressed is not None and not (unfit and precise):
        return compressed
    if precise:
        names = together(measured.name, around)
        already = {output for node in around.artifact if node.type != "cast" for output in node.outputs}
        # coremltools keeps those in float32 whose constants overflow, and never asks: no pattern matches them
        return _in_float32([name for name in names if name not in already] or names, around)
    return "the program computes this in float32 and uncompressed as well: no setting of the recipe changes it"


def substitution_remedy(effect: SubstitutionEffect) -> str:
    """Leave the rewrite out, wholly or for the modules that cannot bear it."""
    return (
        f"look at `substitutions.{effect.name}`: it alone changes the outputs by up to {effect.max_abs:.3g}; "
        f"correct it, leave it out, choose fewer `modules`, or limit it: `substitutions.{effect.name}.effect.max: …`"
    )


def conversion_remedy(lowerings: Sequence[UsedLowering]) -> str:
    """The lowerings that were used are the first to look at, then the other ways of capture."""
    used = ", ".join(lowering.operator for lowering in lowerings)
    first = f"our lowerings of {used}, or " if used else ""
    return f"look at {first}another `capture.method`: in float32 and uncompressed the program is as wrong"


def together(name: str, around: RemedyContext) -> list[str]:
    """The operators that have to compute in float32 for a value to stay whole, in the program's order.

    Whatever reads a value that half precision cannot hold belongs to them, or the value is rounded before it is read.
    """
    wanted, waiting = {name}, [name]
    while waiting:
        value = waiting.pop()
        found = around.ranges.get(value)
        if found is None or not found.is_unfit:
            continue
        new = {output for node in readers(around.reference, value) for output in node.outputs} - wanted
        wanted |= new
        waiting += sorted(new)
    computed = {output for node in around.reference if node.type != "cast" for output in node.outputs}
    order = {output: place for place, node in enumerate(around.reference) for output in node.outputs}
    return sorted(wanted & computed, key=lambda each: order[each])


def _in_float32(names: Sequence[str], around: RemedyContext) -> str:
    """The section `precision` with these operators in it, beside what it has.

    They are named by module, or by type where no module is known: the names that they had when coremltools chose their
    precision are others than in the artifact.
    """
    types = {output: node.type for node in around.reference for output in node.outputs}
    modules = [around.modules[name] for name in names if name in around.modules]
    rest = [types[name] for name in names if name not in around.modules]
    now = around.spec.precision
    kept = {s: getattr(now, s) for s in _KEPT} if isinstance(now, Mixed) else {}
    settings = {
        **kept,
        "fp32_modules": list(dict.fromkeys([*kept.get("fp32_modules", ()), *modules])),
        "fp32_op_types": list(dict.fromkeys([*kept.get("fp32_op_types", ()), *rest])),
    }
    lines = [f"  {setting}: {_listed(patterns)}" for setting, patterns in settings.items() if patterns]
    return "\n".join(["precision:", "  kind: mixed", *lines])


def _compression(measured: Measured, modules: Sequence[str], around: RemedyContext) -> str | None:
    """The step that compressed the operator's weight, with an exception for it; None where nothing did."""
    weights = decompressed(around.artifact, measured.given_name)
    if not weights:
        return None
    of_modules = around.spec.module_compression
    known = {measured.given_name, *modules}
    steps = [
        name
        for name, changed in around.changed.items()
        if any(each in known or any(weight.startswith(each) for weight in weights) for each in changed)
    ] or list(around.changed)
    values = {output for node in around.artifact for output in node.outputs}
    own_names = [weight for weight in weights if weight not in values]  # of a Core AI program; MIL names the operator
    left_out = own_names or [measured.given_name]
    lines = ["compression:"]
    for name in steps:
        step = around.spec.compression[name]
        if name in of_modules:
            lines.append(f"  {name}:   # leave {', '.join(modules) or measured.name} out of it")
            continue
        now = step.except_names  # type: ignore[union-attr]  # every step on the program has it
        lines += [f"  {name}:", f"    except_names: {_listed([*(now or ()), *left_out])}"]
        if isinstance(step, Palettize) and step.nbits is not None and step.nbits < 8:
            more = next(bits for bits in (2, 3, 4, 6, 8) if bits > step.nbits)
            lines.append(f"    # or, for all weights, nbits: {more} and more instead of {step.nbits}")
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
