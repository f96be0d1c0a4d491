"""Which compression steps cannot work: with the target, with the format, with each other, or in themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.errors import Diagnostic
from builder.spec.compression import (
    CompressionStep,
    LinearQuantize,
    Palettize,
    ProgramCompression,
    Prune,
    QuantizeActivations,
)
from builder.spec.compression_kinds import compression_kind
from builder.spec.problems import Path, needs
from builder.spec.target import FORMATS, Format, Target


def compression_problems(
    steps: Mapping[str, ProgramCompression], target: Target, format_: Format, precision: str
) -> Iterator[Diagnostic]:
    """Yield what is wrong with `steps`, each with the change that would help."""
    if steps and not FORMATS[format_].is_program and precision != "fp32":
        yield Diagnostic(
            code="B0242",
            path=("precision",),
            message="compressed weights of a neural network (format mlmodel) are made from float32",
            hint="write `precision: fp32` in the defaults list: what is not compressed stays in float32",
        )
    earlier: dict[str, ProgramCompression] = {}
    for name, step in steps.items():
        path = ("compression", name)
        yield from _settings(path, step)
        if not FORMATS[format_].is_program:
            yield from _neural_network(path, step, earlier)
        else:
            yield from needs(target, path, f"compression {name}", compression_kind(step).minimum_generation(step))
            yield from _upon(path, name, step, earlier, target)
        earlier[name] = step


def may_overlap(first: CompressionStep, second: CompressionStep) -> bool:
    """Whether both steps may compress the same weight: not if names or exceptions can tell them apart, or types do."""
    for step in (first, second):
        if isinstance(step, QuantizeActivations):
            return False
        if step.names is not None or step.except_names is not None or step.except_op_types is not None:
            return False  # decided when the program is known
    if first.op_types is None or second.op_types is None:
        return True
    return bool(set(first.op_types) & set(second.op_types))


def _settings(path: Path, step: ProgramCompression) -> Iterator[Diagnostic]:
    match step:
        case LinearQuantize():
            yield from _only_with(path, step, "block_size", step.granularity == "per_block", "granularity: per_block")
        case Palettize():
            grouped = step.granularity == "per_grouped_channel"
            for key in ("group_size", "channel_axis"):
                yield from _only_with(path, step, key, grouped, "granularity: per_grouped_channel")
            yield from _table(path, step)
        case Prune():
            yield from _prune(path, step)


def _table(path: Path, step: Palettize) -> Iterator[Diagnostic]:
    if step.mode == "unique" and "nbits" in step.model_fields_set and step.nbits is not None:
        yield Diagnostic(
            code="B0253",
            path=(*path, "nbits"),
            message="mode unique finds out itself how many bits it needs",
            hint="leave nbits out, or write `nbits: null` to take back what a group option set",
        )
    if step.mode != "unique" and step.nbits is None:
        yield Diagnostic(
            code="B0253", path=(*path, "nbits"), message=f"mode {step.mode} needs nbits", hint="such as `nbits: 6`"
        )
    if step.cluster_dim > 1 and step.mode == "uniform":
        yield Diagnostic(
            code="B0253",
            path=(*path, "cluster_dim"),
            message="mode uniform has no tables of vectors",
            hint="write `mode: kmeans`, or `cluster_dim: 1`",
        )


def _prune(path: Path, step: Prune) -> Iterator[Diagnostic]:
    ways = [way for way in ("target_sparsity", "n_m_ratio", "threshold") if getattr(step, way) is not None]
    if len(ways) != 1:
        yield Diagnostic(
            code="B0253",
            path=path,
            message="say one of target_sparsity, n_m_ratio or threshold; this says " + (" and ".join(ways) or "none"),
            hint="null takes back what a group option set",
        )
    if step.n_m_ratio is not None and step.n_m_ratio[0] > step.n_m_ratio[1]:
        n, m = step.n_m_ratio
        yield Diagnostic(
            code="B0253",
            path=(*path, "n_m_ratio"),
            message=f"cannot set {n} of every {m} weights to zero",
            hint=f"write `n_m_ratio: [{m}, {n}]`",
        )
    yield from _only_with(path, step, "minimum_sparsity", step.threshold is not None, "threshold")
    yield from _only_with(path, step, "block_size", step.target_sparsity is not None, "target_sparsity")
    structured = step.block_size is not None or step.n_m_ratio is not None
    yield from _only_with(path, step, "dim", structured, "block_size or n_m_ratio")


def _only_with(path: Path, step: ProgramCompression, key: str, holds: bool, what: str) -> Iterator[Diagnostic]:
    if getattr(step, key) is not None and not holds:
        yield Diagnostic(
            code="B0253",
            path=(*path, key),
            message=f"{key} means nothing without {what}",
            hint=f"add it, or leave {key} out (null takes back what a group option set)",
        )


def _upon(
    path: Path, name: str, step: ProgramCompression, earlier: Mapping[str, ProgramCompression], target: Target
) -> Iterator[Diagnostic]:
    """What is wrong with compressing further what earlier steps compressed."""
    for before, first in earlier.items():
        if not may_overlap(first, step):
            continue
        if target.generation < 18:
            yield from needs(target, path, f"compression {name} upon what {before} compressed", 18)
            return
        if isinstance(first, Palettize) and isinstance(step, LinearQuantize) and step.granularity != "per_tensor":
            yield Diagnostic(
                code="B0253",
                path=(*path, "granularity"),
                message=f"the tables that {before} makes are quantized with one scale each",
                hint="write `granularity: per_tensor`",
            )
        if isinstance(first, LinearQuantize) and isinstance(step, Palettize) and first.dtype in ("int4", "uint4"):
            yield Diagnostic(
                code="B0253",
                path=path,
                message=f"a table holds integers of 8 bits or more, and {before} makes {first.dtype}",
                hint=f"write `dtype: int8` in {before}, or leave one of both out",
            )
        yield from _alone(path, step, before, first)


def _alone(path: Path, step: ProgramCompression, before: str, first: ProgramCompression) -> Iterator[Diagnostic]:
    """Two things that coremltools stores for plain weights only."""
    tables = [(path, step), (("compression", before), first)]
    for where, table in tables:
        if not isinstance(table, Palettize):
            continue
        if table.enable_per_channel_scale:
            yield Diagnostic(
                code="B0253",
                path=(*where, "enable_per_channel_scale"),
                message=f"a table with scales goes with no other step, and {path[-1]} is for what {before} compressed",
                hint="leave enable_per_channel_scale out, or give the steps different op_types",
            )
        if table.cluster_dim > 1 and isinstance(step if table is first else first, Prune):
            yield Diagnostic(
                code="B0253",
                path=(*where, "cluster_dim"),
                message="coremltools stores no tables of vectors for sparse weights",
                hint="write `cluster_dim: 1`, or give the steps different op_types",
            )


def _neural_network(path: Path, step: ProgramCompression, earlier: Mapping[str, object]) -> Iterator[Diagnostic]:
    """A neural network (format mlmodel) knows linear integers per channel and one table per weight."""
    allowed = (
        "a neural network (format mlmodel) takes linear_quantize per_channel, or palettize per_tensor by kmeans or "
        "uniform, as its only step"
    )
    hint = "write `format: mlpackage` with target ios16 or later for everything else"
    if isinstance(step, QuantizeActivations):
        hint = "write `format: mlpackage` with target ios17 or later"
        yield Diagnostic(
            code="B0242", path=path, message="a neural network (format mlmodel) has no quantized activations", hint=hint
        )
        return
    if earlier:
        yield Diagnostic(code="B0253", path=path, message=f"{allowed}; this is the second", hint=hint)
    elif isinstance(step, LinearQuantize) and step.granularity == "per_channel":
        if "4" in step.dtype and step.mode != "linear":
            yield Diagnostic(
                code="B0242",
                path=(*path, "mode"),
                message="a neural network (format mlmodel) has no symmetric scale for 4 bits",
                hint="write `mode: linear`",
            )
    elif isinstance(step, Palettize) and step.granularity == "per_tensor" and step.mode != "unique":
        for key, without in (("cluster_dim", 1), ("enable_per_channel_scale", False)):
            if getattr(step, key) != without:
                yield Diagnostic(code="B0253", path=(*path, key), message=f"{allowed}, without {key}", hint=hint)
    else:
        yield Diagnostic(code="B0253", path=path, message=allowed, hint=hint)
    for key in ("op_types", "except_op_types"):
        if getattr(step, key) is not None:
            yield Diagnostic(
                code="B0242",
                path=(*path, key),
                message=f"{key} are operators of ML programs, and the format is mlmodel",
                hint="choose layers by `names`",
            )
