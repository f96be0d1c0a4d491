"""The capture stage: the prepared module as a TorchScript trace, an exported program or an ONNX graph."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from builder.artifacts.stages import CapturedProgram, ExampleInputs, PreparedModel, Sample
from builder.backends.coreml.lowerings.narrow import wrap_exported, wrap_trace
from builder.backends.coreml.lowerings.writes import mark_copies
from builder.backends.coreml.preflight.raised import Watch, trace_constants
from builder.checks.comparison import judge
from builder.checks.limits import CAPTURE
from builder.data.collection import samples_digest
from builder.errors import BuilderError, ConversionError
from builder.model.capture.checked_sizes import sizes_checked
from builder.model.capture.compared import refuse_random
from builder.model.capture.complex_numbers import complex_in_parts, is_complex_program, is_complex_trace
from builder.model.capture.composites import run_decompositions
from builder.model.capture.conditions import drop_conditions
from builder.model.capture.distances import exact_distances
from builder.model.capture.encoders import padding_set_to_zero
from builder.model.capture.flexible import (
    Elsewhere,
    FrozenSizeError,
    check_conditions,
    check_sizes,
    refused,
    where_code_differs,
)
from builder.model.capture.guards import export_program
from builder.model.capture.onnx import capture_onnx
from builder.model.capture.pools import pools_of_whole_axes
from builder.model.capture.recorded import recorded
from builder.model.capture.torchscript import folded, is_decided, unrolled
from builder.model.sources.coreml import exposed, has_file, unrounded
from builder.model.states import reset_states
from builder.model.uncertainty import Uncertainty
from builder.util.process_state import said_by


class ValueConstantError(ConversionError):
    """The program exists, and holds a value of the examples where the model computes one."""


def trace(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A TorchScript trace; not run again to check itself, since the capture check compares it on several inputs."""
    with _attention_in_operators(), padding_set_to_zero(), pools_of_whole_axes(), sizes_checked():
        traced = _in_parts(prepared, lambda: _trace(prepared.module, inputs), is_complex_trace)
        if is_decided(traced, prepared.module, keeps_state=bool(prepared.states)):
            return traced
        reset_states(prepared.module, prepared.states.values())
        return _trace(unrolled(prepared.module, inputs), inputs)


def _in_parts(prepared: PreparedModel, make: Callable[[], Any], is_complex: Callable[[Any], bool]) -> Any:
    """What `make` captures; where complex numbers occur, captured once more with those in parts.

    Not at once: torch takes names for a trace from the variables of whoever calls its functions.
    """
    made = make()
    if not is_complex(made):
        return made
    reset_states(prepared.module, prepared.states.values())
    with complex_in_parts():
        return make()


def _trace(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A trace in which no dictionary is left that a compiled module returns: coremltools cannot convert any."""
    traced: Any = torch.jit.trace(module, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]  # torch
    if "prim::DictConstruct" in str(traced.inlined_graph):
        torch._C._jit_pass_inline(traced.graph)
        torch._C._jit_pass_peephole(traced.graph, True)  # reads what was just put into the dictionary
        torch._C._jit_pass_dce(traced.graph)
    mark_copies(traced)
    wrap_trace(traced)
    return traced


def export(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...], names: Sequence[str]) -> Any:
    """An ExportedProgram in core ATen operators, as coremltools takes it; of the model at all sizes that are open."""
    sample = Sample(given={}, tensors=dict(zip(names, inputs, strict=True)))
    with _as_exported(prepared):
        try:
            return _exported(prepared, sample)
        except Exception as error:  # torch has many types of its own
            if not any(prepared.flexible):
                return _recorded(prepared, sample, error)
            why = error if isinstance(error, BuilderError) else refused(prepared, sample) or error
        try:
            return _exported(prepared, sample, strict=True)
        except Exception as error:  # as above
            elsewhere = why.sample if isinstance(why, FrozenSizeError) else None
            if elsewhere is None:
                raise why from error
        try:  # where `if height % 8` pads, the same program is often right for the other heights
            return _exported(prepared, elsewhere)
        except Exception as error:  # as above
            raise why from error


def _recorded(prepared: PreparedModel, sample: Sample, why: Exception) -> Any:
    """The program of what one call runs, where torch exports that; else `why` the model itself is not exported."""
    if prepared.states:
        raise why
    try:
        return _exported(prepared, sample, recorded(prepared.module, tuple(sample.tensors.values())))
    except Exception as error:  # torch has many types of its own
        raise why from error


def _exported(
    prepared: PreparedModel, sample: Sample, module: torch.nn.Module | None = None, *, strict: bool = False
) -> Any:
    inputs = tuple(sample.tensors.values())
    shapes = _dynamic_shapes(prepared)
    module = module or prepared.module
    program = _in_parts(prepared, lambda: export_program(module, inputs, shapes, strict=strict), is_complex_program)
    program = run_decompositions(program, {})
    drop_conditions(program)
    program = _without_copied_inputs(_without_changed_inputs(program))
    if any(prepared.flexible):
        check_conditions(prepared, program, sample)
    return wrap_exported(_with_strides(program))


def _with_strides(program: Any) -> Any:
    """Write out the strides of pools, which torch takes from the window and coremltools asks for."""
    for node in program.graph.nodes:
        pools = node.op == "call_function" and str(node.target).startswith(("aten.max_pool", "aten.avg_pool"))
        if pools and len(node.args) == 2 and "stride" not in node.kwargs:
            node.args = (*node.args, node.args[1])
    program.graph_module.recompile()
    return program


def _without_changed_inputs(program: Any) -> Any:
    """Let what a model writes into its inputs be no outputs: the app keeps its own."""
    from torch.export.graph_signature import ExportGraphSignature, OutputKind

    signature = program.graph_signature
    if not signature.user_inputs_to_mutate:
        return program
    kept = [spec.kind != OutputKind.USER_INPUT_MUTATION for spec in signature.output_specs]
    (node,) = (node for node in program.graph.nodes if node.op == "output")
    node.args = (tuple(value for value, keep in zip(node.args[0], kept, strict=True) if keep),)
    program.graph_module.recompile()
    outputs = [spec for spec, keep in zip(signature.output_specs, kept, strict=True) if keep]
    program._graph_signature = ExportGraphSignature(input_specs=signature.input_specs, output_specs=outputs)
    return program


def _without_copied_inputs(program: Any) -> Any:
    """Let a copy of an input that is an output be computed: coremltools gives the input the output's name, and fails.

    Given:   %y = aten.clone(%x);  return (%y,)
    Result:  %one = aten.new_ones(%x, []);  %y = aten.mul(%x, %one);  return (%y,)
    """
    aten: Any = torch.ops.aten
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    for node in output.args[0]:
        given = node
        while getattr(given, "target", None) in (aten.clone.default, aten.alias.default, aten.detach.default):
            given = given.args[0]
        if given is node or given.op != "placeholder" or given.meta["val"].dtype == torch.bool:
            continue
        with program.graph.inserting_before(node):
            one = program.graph.call_function(aten.new_ones.default, (given, []))
        one.meta = {**node.meta, "val": node.meta["val"].new_ones(())}
        node.target, node.args, node.kwargs = aten.mul.Tensor, (given, one), {}
    program.graph_module.recompile()
    return program


def _dynamic_shapes(prepared: PreparedModel) -> Any:
    """What `torch.export` is told of flexible dimensions; the prepared module takes `*inputs`, hence the tuple."""
    if not any(prepared.flexible):
        return None
    dimensions = {
        size.name: torch.export.Dim(size.name, min=size.min, max=size.max)
        for sizes in prepared.flexible
        for size in sizes.values()
    }
    return (tuple({d: dimensions[size.name] for d, size in sizes.items()} for sizes in prepared.flexible),)


def script(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A trace around the model compiled by TorchScript, which keeps the branches and loops that values decide."""
    deployed = copy.copy(prepared.module)
    deployed._modules = {**prepared.module._modules, "model": _scripted(prepared.module.get_submodule("model"))}
    with _attention_in_operators():
        traced = _trace(deployed, inputs)
        if is_decided(traced, deployed, keeps_state=bool(prepared.states)):
            return traced
        return folded(traced, inputs, fixed=not any(prepared.flexible))


def _scripted(model: torch.nn.Module) -> Any:
    """The model compiled by TorchScript; raises the same as the first time where it is not the first.

    A class that does not compile stays half-made in torch's table of types: whoever compiles it once more is told
    "Can't redefine method", and not why. So that table is made anew.
    """
    try:
        return torch.jit.script(model)
    except Exception:
        recursive: Any = torch.jit._recursive
        recursive.concrete_type_store = recursive.ConcreteTypeStore()
        raise


def onnx(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...], names: Sequence[str]) -> Any:
    """An ONNX graph, of a PyTorch module by torch.onnx; of an ONNX source the file's own, with what surrounds it."""
    with _attention_in_operators(), padding_set_to_zero():
        return capture_onnx(prepared, inputs, names)


def _program(method: str, prepared: PreparedModel, inputs: tuple[torch.Tensor, ...], names: Sequence[str]) -> Any:
    match method:
        case "trace":
            return trace(prepared, inputs)
        case "export":
            return export(prepared, inputs, names)
        case "script":
            return script(prepared, inputs)
        case "onnx":
            return onnx(prepared, inputs, names)
        case "coreml":
            return prepared.module  # the file is a Core ML model already
    raise AssertionError(f"{method} is not a method of capture")


def capture(
    prepared: PreparedModel,
    examples: ExampleInputs,
    method: str,
    failures: Mapping[str, str],
    *,
    strict: bool = False,
    watch: Watch | None = None,
) -> CapturedProgram:
    """Capture `prepared.module` with one method, on the first sample.

    `failures` says why the methods before did not work. Raises ConversionError when this one does not; with `strict`
    also when the captured program computes something else on the other samples, so that another can be tried.
    `watch` collects the values and sizes that a trace records as constants.
    """
    sample = examples.samples[0] if method != "export" else _of_open_sizes(prepared, examples)
    inputs, names = tuple(sample.tensors.values()), tuple(sample.tensors)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own use of what torch deprecates
            with watch.watching() if watch is not None else nullcontext():
                program = _program(method, prepared, inputs, names)
    except BuilderError:
        raise
    except Exception as error:
        raise _failed(method, error) from error
    reset_states(prepared.module, prepared.states.values())
    captured = CapturedProgram(program=program, method=method, failures=dict(failures))
    elsewhere = None
    if method == "trace" and any(prepared.flexible):
        elsewhere = _where_code_differs(prepared, _of_open_sizes(prepared, examples))
    check_sizes(prepared, captured, examples, partial(_trace_again, prepared, watch), elsewhere)
    if strict:
        check_other_samples(prepared, captured, examples)
    return captured


def _where_code_differs(prepared: PreparedModel, sample: Sample) -> Elsewhere | None:
    """Sizes at which a branch goes another way, as torch.export has the conditions; None where it does not take it."""
    try:
        with torch.no_grad(), warnings.catch_warnings(), _as_exported(prepared):
            warnings.simplefilter("ignore")
            return where_code_differs(prepared, sample)
    except Exception:  # torch has many types of its own, and the trace is what is asked for
        return None
    finally:
        reset_states(prepared.module, prepared.states.values())


def _of_open_sizes(prepared: PreparedModel, examples: ExampleInputs) -> Sample:
    """The first sample, or one where no size that the app chooses is 1: export takes a 1 for a size that stays so."""

    def is_open(sample: Sample) -> bool:
        tensors = zip(prepared.flexible, sample.tensors.values(), strict=True)
        return all(tensor.shape[axis] > 1 for sizes, tensor in tensors for axis in sizes)

    every = (examples.samples[0], *examples.other_shapes, *examples.between)
    return next((sample for sample in every if is_open(sample)), examples.samples[0])


def check_other_samples(prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs) -> None:
    """Raise ValueConstantError when capture froze what depends on the values of inputs, such as a branch.

    The sample that was captured is left out, unless the model has states: of that one the program holds what it froze.
    What both gave is kept for the checks, unless they have states.
    """
    given = examples.samples if prepared.states else examples.samples[1:] or examples.samples
    samples = [tuple(sample.tensors.values()) for sample in given]
    is_file = captured.method == "export" and has_file(prepared.module)
    keys = [samples_digest([sample]) for sample in given]

    def original(key: str, sample: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if is_file or prepared.states:
            return tuple(prepared.module(*sample))
        return prepared.answers.of(prepared.module, key, lambda: tuple(prepared.module(*sample)))

    def program(key: str, sample: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if prepared.states:
            return captured.run(*sample)
        return captured.answers.of(captured.program, key, lambda: captured.run(*sample))

    reset_states(prepared.module, prepared.states.values())
    buffers = dict(prepared.module.named_buffers(remove_duplicate=False)) if prepared.states else {}
    others = Uncertainty(prepared.module, samples, {path: buffers[path] for path in prepared.states.values()})
    try:
        with torch.no_grad(), unrounded(prepared.module) if is_file else nullcontext():
            expected = [original(key, sample) for key, sample in zip(keys, samples, strict=True)]
    except Exception as error:  # whatever the model raises for values that it was not made for
        raise ConversionError(
            f"the model does not run on values that its inputs declare: {said_by(error)}",
            code="B0404",
            hint="narrow `low` and `high` of the input to what the model takes, such as its vocabulary",
            key="input",
        ) from error
    reset_states(prepared.module, prepared.states.values())
    try:
        got = [program(key, sample) for key, sample in zip(keys, samples, strict=True)]
    except Exception as error:
        raise ValueConstantError(
            f"{captured.method} froze something: the captured program fails for other values: {_first_line(error)}",
            code="B0403",
            key="capture.method",
        ) from error
    reset_states(prepared.module, prepared.states.values())
    report = judge(
        name="capture",
        kind="capture",
        engine="none",
        references=[dict(zip(prepared.output_names, outputs, strict=True)) for outputs in expected],
        results=[dict(zip(prepared.output_names, outputs, strict=True)) for outputs in got],
        scores=None,
        limits=CAPTURE,
        others=lambda number: [dict(zip(prepared.output_names, answer, strict=True)) for answer in others(number)],
    )
    if report.passed is False:
        if not is_file:
            refuse_random(prepared, samples[0], expected[0])
        raise ValueConstantError(
            f"{captured.method} froze something: on other inputs the program is not the model: {report.reason}",
            code="B0403",
            key="capture.method",
        )


def _trace_again(prepared: PreparedModel, watch: Watch | None, sample: Sample, *, is_wrong: bool) -> tuple[str, ...]:
    """Trace at another shape and compare what Python read of sizes; return what gave something else, with its place."""
    if watch is None or not watch.sizes:
        return ()
    other = watch.again()
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            _attention_in_operators(),
            padding_set_to_zero(),
            other.watching(),
        ):
            warnings.simplefilter("ignore")
            _trace(prepared.module, tuple(sample.tensors.values()))
    except Exception:  # the model refuses this shape, or cannot be traced at it: nothing is learnt
        return ()
    finally:
        reset_states(prepared.module, prepared.states.values())
    watch.compare(other, is_wrong=is_wrong)
    return trace_constants(watch.differing)


_UNKNOWN = re.compile(r"INTERNAL ASSERT.*We don't have an op for (?P<name>\S+) but.*types:(?P<types>[^\n]*)", re.S)
"""What a trace ends in where an operator was called as no overload of its is declared: `torch.full((3,), True)`."""


def _failed(method: str, error: Exception) -> ConversionError:
    """What torch said, in a line."""
    message = f"{method} failed: {_first_line(error)}"
    if unknown := _UNKNOWN.search(str(error)):
        message = (
            f"{method} failed: torch itself knows no {unknown['name']} of such arguments: {unknown['types'].strip()}"
        )
    if method == "script":
        places = re.findall(r'File "([^"]+)", line (\d+)', str(error))
        where = "".join(f" ({Path(file).name}:{line})" for file, line in places[:1])
        message = f"script failed: TorchScript cannot compile the model: {_first_line(error).rstrip(':')}{where}"
    return ConversionError(message, code="B0402", key="capture.method")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _as_exported(prepared: PreparedModel) -> Iterator[None]:
    distances = exact_distances() if any(prepared.flexible) else nullcontext()
    with (
        _attention_in_operators(),
        padding_set_to_zero(),
        pools_of_whole_axes(),
        distances,
        exposed(prepared.module),
    ):
        yield


@contextmanager
def _attention_in_operators() -> Iterator[None]:
    """Keep torch from fusing attention into `_native_multi_head_attention`, which coremltools cannot convert."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
