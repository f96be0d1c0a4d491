"""Make coremltools spend no time on what changes nothing in the result, within one `with` block, restored after it.

Each replacement computes what the replaced code computes, or something that nobody reads. Measured with coremltools 9.0
on ViT-B/16, where they take 2.4 of 4.3 s away.
"""

from __future__ import annotations

import copy
import gc
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from builder.backends.coreml.importing import import_coremltools, messages_to_log
from builder.backends.coreml.mlpackage import write_package
from builder.backends.coreml.patches.apply import LOCK, Make, ModuleOverlay, patched
from builder.backends.coreml.patches.inference import inferred_once
from builder.util.lazy_import import paused_collector

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Block, Operation, Program, Var
    from coremltools.converters.mil.mil.scope import ScopeSource
    from coremltools.models import MLModel
    from google.protobuf.message import Message
    from torch import Tensor

_Rows = Iterator[tuple[str, Make]]
"""Targets of the table, each with what makes its replacement of the original."""


@contextmanager
def fast_conversion() -> Iterator[Callable[[MLModel], MLModel]]:
    """Convert faster and without output; yields `keep`, which ties a model's temporary package to its life.

    Whatever temporary package is not kept is removed at the end of the block. Conversions wait for each other.
    """
    import_coremltools()
    with LOCK, ExitStack() as scoped:
        folder = Path(tempfile.mkdtemp(prefix="builder-convert-"))
        kept: list[Path] = []
        scoped.callback(lambda: None if kept else shutil.rmtree(folder, ignore_errors=True))
        scoped.enter_context(paused_collector())
        scoped.enter_context(messages_to_log("coremltools"))
        for target, make in [*_without_waste(), *_without_copies(folder)]:
            scoped.enter_context(patched(target, make))

        def keep(model: MLModel) -> MLModel:
            kept.append(folder)
            weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
            return model

        yield keep


def validate_program(program: Program) -> None:
    """Run on a final program what coremltools runs after each of its hundred passes; raises when it is inconsistent."""
    program.validate(check_essential_scope=True)


_MIL = "coremltools.converters.mil"
_PRECISION = f"{_MIL}.mil.passes.defs.quantization:FP16ComputePrecision"
_MODEL = "coremltools.models.model"


def _always(value: object) -> Make:
    return lambda _: value


def _without_waste() -> _Rows:
    yield f"{_MIL}.mil.program:Program.validate", _always(lambda *_, **__: None)
    if not logging.getLogger("coremltools").isEnabledFor(logging.DEBUG):
        yield f"{_MIL}.mil.program:Program.__str__", _always(object.__repr__)
        yield f"{_MIL}.mil.block:Function.__str__", _always(object.__repr__)
    yield f"{_MIL}.mil.passes.pass_pipeline:tqdm", _always(_plain_iterable)
    yield f"{_MIL}.frontend.torch.ops:_tqdm", _always(_plain_iterable)
    yield f"{_MIL}.backend.nn.op_mapping:_tqdm", _always(_plain_iterable)
    yield "coremltools.optimize._utils:_logger", _always(logging.getLogger("coremltools.optimize"))
    yield "coremltools.converters._converters_entry:gc", _always(ModuleOverlay(gc, collect=lambda *_: 0))
    yield from _propagation_where_needed()
    yield from inferred_once()
    yield f"{_PRECISION}.fp16_overflow", _quick_overflow
    yield f"{_PRECISION}._check_underflow_to_zero", _quick_underflow
    yield f"{_MIL}.mil.var:copy", _always(ModuleOverlay(copy, deepcopy=_copy_scopes))
    answers: dict[type, bool] = {}
    for name in ("types", "types.type_mapping", "types.type_tensor"):
        yield f"{_MIL}.mil.{name}:is_tensor", lambda original: _remembering(original, answers)
    yield (
        f"{_MIL}.frontend.torch.torchscript_utils:torch",
        lambda torch: ModuleOverlay(torch, equal=_quick_equal(torch.equal)),
    )


def _plain_iterable(iterable: object, **_: object) -> object:
    return iterable


def _propagation_where_needed() -> _Rows:
    """Walk the block to tell variables which constexpr variables they depend on only once there are any.

    Constants, three of four operators, depend on none.
    """
    seen: set[bool] = set()

    def noting(is_nonreplaceable: Callable[[Var], object]) -> Callable[[Var], bool]:
        def note_nonreplaceable(variable: Var) -> bool:
            answer = bool(is_nonreplaceable(variable))
            seen.add(answer)
            return answer

        return note_nonreplaceable

    def propagate(self: Block) -> None:
        for operation in self.operations:
            for inner in operation.blocks:
                propagate(inner)
            for output in operation.outputs or ():
                output._reset_nonreplaceable_vars_upstream()
                if operation.op_type != "const":
                    output._set_nonreplaceable_vars_upstream()

    def propagate_if_any(self: Block) -> None:
        if True in seen:
            propagate(self)

    yield f"{_MIL}.mil.var:Var._is_nonreplaceable_var", noting
    yield f"{_MIL}.mil.block:Block._propagate_nonreplaceable_vars", _always(propagate_if_any)


def _quick_overflow(original: Callable[[Operation], bool]) -> Callable[[Operation], bool]:
    """FP16ComputePrecision.fp16_overflow with an answer for the usual case that makes no copies of the weights."""

    def is_small(var: Var) -> bool:
        if var.op is None or var.op.op_type != "const" or not var.is_tensor_or_scalar_of(dtype="fp32"):
            return True
        value = np.asarray(var.op.val.val)
        return value.size == 0 or bool(value.min() >= -65504 and value.max() <= 65504)  # false for NaN

    def fp16_overflow(op: Operation) -> bool:
        flat = (v for value in op.inputs.values() for v in (value if isinstance(value, list | tuple) else (value,)))
        return False if all(is_small(var) for var in flat) else original(op)

    return fp16_overflow


def _quick_underflow(original: Callable[[object, Var, Var], None]) -> Callable[[object, Var, Var], None]:
    """FP16ComputePrecision._check_underflow_to_zero, which looks at less than 400 values, without copying more."""

    def check(self: object, new_var: Var, var: Var) -> None:
        if np.size(var.val) < 400:
            original(self, new_var, var)

    return check


def _copy_scopes(scopes: dict[ScopeSource, list[object]]) -> dict[ScopeSource, list[object]]:
    """A deep copy of an operator's scopes, which are mostly lists of text."""
    if not all(isinstance(part, str | int) for names in scopes.values() for part in names):
        return copy.deepcopy(scopes)
    copied = copy.copy(scopes)
    copied.update({source: list(names) for source, names in scopes.items()})
    return copied


def _remembering(original: Callable[[object], bool], answers: dict[type, bool]) -> Callable[[object], bool]:
    """A question about a type, which never changes, answered once for each type while a conversion lasts."""

    def ask(kind: object) -> bool:
        if not isinstance(kind, type):
            return original(kind)
        if kind not in answers:
            answers[kind] = original(kind)
        return answers[kind]

    return ask


def _quick_equal(original: Callable[[Tensor, Tensor], bool]) -> Callable[[Tensor, Tensor], bool]:
    """torch.equal that does not read tensors which share their memory; coremltools asserts with it that they do."""

    def layout(tensor: Tensor) -> tuple[object, ...]:
        return tensor.dtype, tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()

    def equal(left: Tensor, right: Tensor) -> bool:
        return layout(left) == layout(right) or original(left, right)

    return equal


def _without_copies(folder: Path) -> _Rows:
    """Write weights once, where the package will be, and hand the specification on instead of reading it again."""
    made: dict[str, Message] = {}

    def new_folder(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(name=tempfile.mkdtemp(dir=folder))

    def create_package(spec: Message, weights_dir: str | None = None, package_path: str | None = None) -> str:
        path = Path(package_path or Path(tempfile.mkdtemp(dir=folder)) / "model.mlpackage")
        write_package(path, spec.SerializeToString(), None if weights_dir is None else Path(weights_dir))
        made[str(path)] = spec
        return str(path)

    def save_spec(spec: Message, filename: str, **_: object) -> None:
        made[filename] = spec

    def reading(load: Callable[[str], Message]) -> Callable[[str], Message]:
        return lambda filename: made.pop(filename) if filename in made else load(filename)

    yield f"{_MIL}.converter:_tempfile", _always(ModuleOverlay(tempfile, TemporaryDirectory=new_folder))
    yield f"{_MODEL}:_create_mlpackage", _always(create_package)
    yield f"{_MODEL}:_save_spec", _always(save_spec)
    yield f"{_MODEL}:_load_spec", reading
    # The private folder goes with the model: no package is registered for removal at the end of the process.
    yield f"{_MODEL}:_atexit", _always(SimpleNamespace(register=lambda *_: None))
