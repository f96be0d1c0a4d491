"""An exported program as an `.aimodel`, in the child process: decomposed, folded, cast, converted, weights named."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from builder.backends.coreai.child import call, inherit, inherited
from builder.backends.coreai.modules import LEAST
from builder.backends.coreai.refusals import REPLACE, where
from builder.errors import ConfigurationError, ConversionError
from builder.util.patient import patient
from builder.util.suggest import did_you_mean

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node

    from builder.backends.coreai.adapter import Program
    from builder.backends.coreai.passes.edit import Edit

_SECONDS = 3600.0
"""For one conversion, of the largest models too; a hang must end."""
KEPT_MODULES = ("normalize", "decode_boxes", "choose_boxes", "propose_boxes", "pool_boxes")
"""The builder's own modules around a model that compute in float32: pixels' levels and edges of boxes need its bits."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the artifact takes and gives, by name and type as numpy calls it, in the order of the program."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str | None]
    """None: as the program has it."""
    states: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By name, the path of the buffer in the program, and its type."""
    shapes: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    """By input, the shapes that a recipe enumerates: of several inputs the first with the first, and so on."""


@dataclass(frozen=True, kw_only=True)
class Halves:
    """What computes in half precision: everything but the builder's own parts and what patterns keep in float32."""

    fp32_op_types: tuple[str, ...] = ()
    fp32_modules: tuple[str, ...] = ()
    fp32_names: tuple[str, ...] = ()
    """Names of operators in the exported program: as `Converted.origins` has them."""
    fp32_op_types_if_present: tuple[str, ...] = ()
    fp32_modules_if_present: tuple[str, ...] = ()
    """Paths of modules, not patterns."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion says of itself."""

    operators: Mapping[str, int]
    """How many of each kind the program has."""
    decomposed: Mapping[str, int]
    """How often a decomposition of ours was needed, by operator of torch."""
    folded: int
    """Batch norms."""
    exact_casts: int
    origins: tuple[tuple[str, str], ...] = ()
    """For each operator of the asset in its order, the name of the one of torch that it was written for, and the path
    of its module; empty texts where that is not known. Only where `fp32_names` are given: it takes a conversion."""


def convert(program: ExportedProgram, destination: Path, declared: Declared, halves: Halves | None) -> Converted:
    """Convert a `torch.export.ExportedProgram` to the asset `destination`; computes in float32 unless `halves`.

    Raises ConversionError naming what cannot be converted, ConfigurationError for patterns that match nothing.
    """
    import tempfile
    import warnings

    import torch

    if inherit(program):
        return _converted(None, destination, declared, halves)
    with tempfile.TemporaryDirectory(prefix="builder-coreai-") as folder:
        file = Path(folder) / "program.pt2"
        with patient(file) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own use of what it deprecates
            torch.export.save(program, stream)
        return _converted(str(file.absolute()), destination, declared, halves)


def _converted(file: str | None, destination: Path, declared: Declared, halves: Halves | None) -> Converted:
    result: Converted = call("conversion:run", file, str(destination.absolute()), declared, halves, seconds=_SECONDS)
    return result


def run(file: str | None, destination: str, declared: Declared, halves: Halves | None) -> Converted:
    """What `convert` does, in the child: on an archive that `torch.export.save` wrote, or on what it has inherited."""
    import torch

    from builder.backends.coreai.decompose import decompose
    from builder.backends.coreai.decompositions.table import OURS, TORCHS, decompositions
    from builder.backends.coreai.passes.batch_norm import fold_batch_norm
    from builder.backends.coreai.passes.casts import exact_casts
    from builder.backends.coreai.passes.creation import fold_created
    from builder.backends.coreai.passes.edit import Edit
    from builder.backends.coreai.passes.factors import write_out_factors
    from builder.backends.coreai.passes.greatest import nan_is_greatest
    from builder.backends.coreai.passes.integers import narrow_integers
    from builder.backends.coreai.passes.loops import copy_carried
    from builder.backends.coreai.passes.promotion import promote
    from builder.backends.coreai.passes.rounding import guard_rounding
    from builder.backends.coreai.passes.scalars import give_an_axis
    from builder.backends.coreai.passes.sizes import exact_sizes
    from builder.model.capture.conditions import open_sizes
    from builder.model.capture.rewritten import check_rewritten, enumerated
    from builder.model.detection.suppress import declare_suppression

    declare_suppression()  # or torch cannot read a program with it, and nobody says what is missing
    program = inherited() if file is None else torch.export.load(file)
    program.graph_module.graph.eliminate_dead_code()
    write_out_factors(program)
    copy_carried(program)
    give_an_axis(program)
    refuse_places_of_maxima(program)
    ours = {str(op) for op in (*OURS, *TORCHS)}
    before = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    with torch.no_grad():
        places = open_sizes(program)
        written = decompose(program, decompositions())
        shapes = enumerated(places, [declared.shapes.get(name, ()) for name in declared.inputs])
        check_rewritten(program, places, written, list(declared.inputs), shapes)
        program = written
        edit = Edit(program)
        folded = fold_batch_norm(edit)
        fold_created(edit)
        narrow_integers(edit)
        exact_sizes(edit)
        promote(edit)
        guard_rounding(edit)
        nan_is_greatest(edit)
        _declare(edit, declared, halves)
        casts = exact_casts(edit)
    refuse_unknown(program)
    _save(program, edit.constants(), declared, Path(destination))
    origins = _origins(program, declared) if halves is not None and halves.fp32_names else ()
    from builder.backends.coreai.describe import operators

    return Converted(
        operators=operators(Path(destination)),
        decomposed={name: before.count(name) for name in sorted(ours & set(before))},
        folded=folded,
        exact_casts=casts,
        origins=origins,
    )


def _declare(edit: Edit, declared: Declared, halves: Halves | None) -> None:
    """Let the program have the declared types, and compute in half precision where it shall."""
    import torch

    from builder.backends.coreai.passes.half import declare_types

    signature = edit.signature
    names = dict(zip(signature.user_inputs, declared.inputs.values(), strict=True))
    outputs = {str(i): getattr(torch, kind) for i, kind in enumerate(declared.outputs.values()) if kind is not None}
    states = {path: getattr(torch, kind) for path, kind in declared.states.values()}
    selector = Selector(halves)
    declare_types(edit, {name: getattr(torch, kind) for name, kind in names.items()}, outputs, states, selector)
    selector.check_all_matched()


class Selector:
    """Whether an operator computes in half precision (none without `halves`); remembers what patterns could name."""

    def __init__(self, halves: Halves | None) -> None:
        from builder.backends.coreai.passes.angles import angle_selector

        self._nothing = halves is None
        self._halves = halves or Halves()
        self._types: set[str] = set()
        self._in_half: dict[Node, bool] = {}
        self._names: set[str] = set()
        self._modules: set[str] = set()
        self._is_angle = angle_selector()

    def __call__(self, node: Node) -> bool:
        """Whether this operator does."""
        from builder.backends.coreai.passes.edit import modules_of

        types, paths = operator_names(node), {path.removeprefix("model.") for path in modules_of(node)}
        self._types |= types
        self._names.add(node.name)
        self._modules |= paths
        kept = (
            bool(types & set(self._halves.fp32_op_types_if_present))
            or _any(types, self._halves.fp32_op_types)
            or _any(paths, self._halves.fp32_modules)
            or _any({node.name}, self._halves.fp32_names)
            or not paths.isdisjoint(self._halves.fp32_modules_if_present)
        )
        own = any(path.split(".")[0] in KEPT_MODULES for path in paths)
        in_half = not (kept or own or self._nothing or self._is_angle(node))
        if in_half and self._halves.fp32_names and (types & _MOVING or node.target is operator.getitem):
            in_half = self._in_half.get(node.args[0], True)  # type: ignore[arg-type] # what moves, reads a node
        self._in_half[node] = in_half
        return in_half

    def check_all_matched(self) -> None:
        """Raise ConfigurationError for a pattern that named nothing in the program."""
        for setting, patterns, known, what in (
            ("fp32_op_types", self._halves.fp32_op_types, self._types, "operator type"),
            ("fp32_modules", self._halves.fp32_modules, self._modules, "module"),
            ("fp32_names", self._halves.fp32_names, self._names, "operator"),
        ):
            for pattern in patterns:
                if not _any(known, (pattern,)):
                    raise ConfigurationError(
                        f"{pattern} matches no {what} of the program",
                        code="B0264",
                        hint=did_you_mean(pattern, known),
                        key=f"precision.{setting}",
                    )


_AS_MIL: Mapping[str, tuple[str, ...]] = {
    "addmm": ("linear",),
    "mm": ("matmul", "linear"),
    "bmm": ("matmul",),
    "native_layer_norm": ("layer_norm",),
    "native_group_norm": ("group_norm",),
    "scaled_dot_product_attention": ("scaled_dot_product_attention",),
    "div": ("real_div",),
    "mean": ("reduce_mean",),
    "sum": ("reduce_sum",),
    "amax": ("reduce_max",),
    "amin": ("reduce_min",),
    "prod": ("reduce_prod",),
    "permute": ("transpose",),
    "view": ("reshape",),
    "cat": ("concat",),
    "avg_pool2d": ("avg_pool",),
    "avg_pool3d": ("avg_pool",),
    "max_pool2d_with_indices": ("max_pool",),
    "max_pool3d_with_indices": ("max_pool",),
    "clamp": ("clip", "relu6", "relu"),
    "embedding": ("gather",),
    "index_select": ("gather",),
    "index": ("gather_nd",),
    "gather": ("gather_along_axis",),
    "scatter": ("scatter_along_axis",),
    "hardtanh": ("relu6", "relu"),
    "maximum": ("relu",),
    "minimum": ("relu6",),
    "upsample_nearest2d": ("upsample_nearest_neighbor", "resize"),
    "upsample_bilinear2d": ("upsample_bilinear", "resize"),
}
"""How MIL calls what ATen has under another name, and `debug` what the dialect has (`modules.recipe_type`): recipes for
both formats name types as MIL does. A clamp is two operators there."""

_MOVES = "alias clone detach expand permute select slice split split_with_sizes squeeze t transpose unbind unsafe_view"
_MOVING = frozenset((*_MOVES.split(), "unsqueeze", "view"))
"""Operators that give values which they read. Apple's optimiser takes many out, so that a recipe which names operators
cannot name them: behind one in float32 they are in float32 too."""

_TRANSPOSED = 6
"""The argument of a convolution that says whether it is transposed."""


def operator_names(node: Node) -> set[str]:
    """By which types a recipe can name an operator: ATen's and MIL's."""
    packet = getattr(node.target, "overloadpacket", None)
    name = str(packet).rpartition(".")[2].lstrip("_") if packet is not None else node.name
    if name == "convolution":
        return {name, "conv_transpose" if node.args[_TRANSPOSED] else "conv"}
    return {name, *_AS_MIL.get(name, ())}


def _any(names: set[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


_SUPPRESSES = (
    "the model suppresses boxes inside, as detectors of two stages do: take one of a single stage with "
    "`detection.output: raw`, or build `format: mlpackage`"
)
_SUPPRESSION = {"builder.suppress.default", "torchvision.nms.default"}


def refuse_unknown(program: ExportedProgram) -> None:
    """Raise ConversionError that names all operators which nobody converts, before the conversion begins."""
    from builder.backends.coreai import adapter

    known = adapter.lowered_operators()
    skipped = ("_assert", "sym_constrain_range")
    unknown: dict[str, str] = {}
    for node in program.graph.nodes:
        name = str(node.target)
        if node.op != "call_function" or not name.startswith(("aten.", "builder.", "torchvision.", "prims.")):
            continue
        plain = name.partition(".")[2]
        if (name.startswith("aten.") and plain in known) or plain.startswith(skipped):
            continue
        unknown.setdefault(name, where(node))
    if unknown:
        places = "; ".join(f"{name}{where}" for name, where in sorted(unknown.items()))
        raise ConversionError(
            f"Core AI has no operator for {places}",
            code="B0401",
            hint=_SUPPRESSES if _SUPPRESSION & unknown.keys() else REPLACE,
            key="format",
        )


def refuse_places_of_maxima(program: ExportedProgram) -> None:
    """Raise ConversionError where a model uses where in a pool its maxima were: coreai-torch gives zeros."""
    for node in program.graph.nodes:
        if node.target is operator.getitem and node.args[1] == 1 and node.users:
            name = str(node.args[0].target)
            if name.startswith(("aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices")):
                raise ConversionError(
                    f"Core AI has no operator for the indices of {name}{where(node.args[0])}",
                    code="B0401",
                    hint=REPLACE,
                    key="format",
                )


def _save(
    program: ExportedProgram, constants: Mapping[str, torch.Tensor], declared: Declared, destination: Path
) -> None:
    """Convert, give large constants the names of the weights that they hold, and write the asset."""
    converted = _converted_program(program, declared)
    name_weights(converted, constants)
    destination.parent.mkdir(parents=True, exist_ok=True)
    converted.save_asset(destination)


def _converted_program(program: ExportedProgram, declared: Declared, *, says_origins: bool = False) -> Program:
    """What coreai-torch makes of a program; `says_origins` in a mode of its own, whose assets name files of here."""
    from builder.backends.coreai import adapter

    signature = program.graph_signature
    paths = {path: name for name, (path, _) in declared.states.items()}
    inputs_to_buffers, mutated = signature.inputs_to_buffers, set(signature.buffers_to_mutate.values())
    states = [
        paths[inputs_to_buffers[node.name]]
        for node in program.graph.nodes
        if node.op == "placeholder" and inputs_to_buffers.get(node.name) in mutated
    ]
    converter = adapter.converter(says_origins=says_origins).add_exported_program(
        program,
        input_names=list(declared.inputs),
        output_names=list(declared.outputs),
        state_names=states,
        entrypoint_name="main",
    )
    return converter.to_coreai()


def _origins(program: ExportedProgram, declared: Declared) -> tuple[tuple[str, str], ...]:
    """Of each operator as it is written (`Converted.origins`)."""
    from builder.backends.coreai import adapter

    modules = {node.name: _innermost(node) for node in program.graph.nodes}
    converted = _converted_program(program, declared, says_origins=True)
    with adapter.module_of(converted).context:
        names = adapter.written_for(adapter.main_graph(converted))
    return tuple((name, modules.get(name, "")) for name in names)


def _innermost(node: Node) -> str:
    """The path of the innermost module around an operator."""
    from builder.backends.coreai.passes.edit import modules_of

    paths = [path.removeprefix("model.") for path in modules_of(node) if path != "model"]
    return paths[-1] if paths else ""


def name_weights(program: Program, constants: Mapping[str, torch.Tensor]) -> None:
    """Name stored constants by the parameter or buffer with the same bytes; others by their first user.

    The optimiser changes few of them; what it did change still says by its user what it is.
    """
    from builder.backends.coreai import adapter

    names = {_digest(value): path.partition("@")[0].removeprefix("model.") for path, value in constants.items()}
    module, taken = adapter.module_of(program), set[str]()
    with module.context:
        for op in list(adapter.walk(module.operation)):
            if op.name != "coreai.constant" or not adapter.is_float(op.results[0]):
                continue
            count = adapter.count_of(op.results[0])
            if count < LEAST:
                continue
            data = adapter.constant_bytes(op)
            name = names.get(_bytes_digest(data.tobytes(), count)) or adapter.user_name(op)
            adapter.set_resource(op, data, adapter.unique(name, taken))


def _digest(value: torch.Tensor) -> str:
    import torch

    plain = value.contiguous()
    if plain.dtype is torch.float64:
        plain = plain.float()
    if plain.dtype is torch.bfloat16:
        plain = plain.view(torch.int16)
    return _bytes_digest(plain.numpy().tobytes(), plain.numel())


def _bytes_digest(data: bytes, count: int) -> str:
    return f"{count} {hashlib.sha256(data).hexdigest()}"
