"""The capture stage: the prepared module as a TorchScript trace, an exported program or an ONNX graph."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from builder.artifacts import CapturedProgram, ExampleInputs, PreparedModel
from builder.backends.coreml.lowerings.writes import mark_copies
from builder.checks.limits import CAPTURE
from builder.errors import BuilderError, ConversionError
from builder.model.capture.onnx import capture_onnx
from builder.model.capture.torchscript import folded, is_decided, unrolled
from builder.model.states import reset_states
from builder.util.measures import compare, why_meaningless


def trace(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A TorchScript trace; not run again to check itself, since the capture check compares it on several inputs."""
    with _attention_in_operators():
        traced = _trace(prepared.module, inputs)
        if is_decided(traced, prepared.module, keeps_state=bool(prepared.states)):
            return traced
        reset_states(prepared.module, prepared.states.values())
        return _trace(unrolled(prepared.module, inputs), inputs)


def _trace(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A trace in which no dictionary is left that a compiled module returns: coremltools cannot convert any."""
    traced: Any = torch.jit.trace(module, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]  # torch
    if "prim::DictConstruct" in str(traced.inlined_graph):
        torch._C._jit_pass_inline(traced.graph)
        torch._C._jit_pass_peephole(traced.graph, True)  # reads what was just put into the dictionary
        torch._C._jit_pass_dce(traced.graph)
    mark_copies(traced)
    return traced


def export(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...]) -> Any:
    """An ExportedProgram in core ATen operators, as coremltools takes it."""
    with _attention_in_operators():
        shapes = _dynamic_shapes(prepared)
        program = torch.export.export(prepared.module, inputs, dynamic_shapes=shapes).run_decompositions({})
        return _without_changed_inputs(program)


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
    deployed._modules = {**prepared.module._modules, "model": torch.jit.script(prepared.module.get_submodule("model"))}
    with _attention_in_operators():
        traced = _trace(deployed, inputs)
        if is_decided(traced, deployed, keeps_state=bool(prepared.states)):
            return traced
        return folded(traced, inputs, fixed=not any(prepared.flexible))


def onnx(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...], names: Sequence[str]) -> Any:
    """An ONNX graph, of a PyTorch module by torch.onnx; of an ONNX source the file's own, with what surrounds it."""
    with _attention_in_operators():
        return capture_onnx(prepared, inputs, names)


def _program(method: str, prepared: PreparedModel, inputs: tuple[torch.Tensor, ...], names: Sequence[str]) -> Any:
    match method:
        case "trace":
            return trace(prepared, inputs)
        case "export":
            return export(prepared, inputs)
        case "script":
            return script(prepared, inputs)
        case "onnx":
            return onnx(prepared, inputs, names)
        case "coreml":
            return prepared.module  # the file is a Core ML model already
    raise AssertionError(f"{method} is no method of capture")


def capture(
    prepared: PreparedModel,
    examples: ExampleInputs,
    method: str,
    failures: Mapping[str, str],
    *,
    strict: bool = False,
    noting: AbstractContextManager[None] | None = None,
) -> CapturedProgram:
    """Capture `prepared.module` with one method, on the first sample.

    `failures` says why the methods before did not work. Raises ConversionError when this one does not; with `strict`
    also when the captured program computes something else on the other samples, so that another can be tried.
    `noting` is around the capture alone, to see what torch warns of.
    """
    inputs = tuple(examples.samples[0].tensors.values())
    names = tuple(examples.samples[0].tensors)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own use of what torch deprecates
            with noting or nullcontext():
                program = _program(method, prepared, inputs, names)
    except BuilderError:
        raise
    except Exception as error:
        raise ConversionError(f"{method} failed: {_first_line(error)}", key="capture.method") from error
    reset_states(prepared.module, prepared.states.values())
    captured = CapturedProgram(program=program, method=method, failures=dict(failures))
    _check_other_shapes(prepared, captured, examples)
    if strict:
        _check_other_samples(prepared, captured, examples)
    return captured


def _check_other_samples(prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs) -> None:
    """Raise ConversionError when capture froze what depends on the values of inputs, such as a branch."""
    samples = [tuple(sample.tensors.values()) for sample in examples.samples]
    reset_states(prepared.module, prepared.states.values())
    with torch.no_grad():
        expected = [prepared.module(*sample) for sample in samples]
    reset_states(prepared.module, prepared.states.values())
    try:
        got = [captured.run(*sample) for sample in samples]
    except Exception as error:
        raise ConversionError(
            f"{captured.method} froze something: the captured program fails for other values: {_first_line(error)}",
            key="capture.method",
        ) from error
    reset_states(prepared.module, prepared.states.values())
    for name, wanted, found in zip(
        prepared.output_names, zip(*expected, strict=True), zip(*got, strict=True), strict=True
    ):
        same_shapes = all(a.shape == b.shape for a, b in zip(wanted, found, strict=True))
        if same_shapes and why_meaningless(wanted):
            continue
        worst = min(compare(a, b).snr_db for a, b in zip(wanted, found, strict=True)) if same_shapes else -math.inf
        if not CAPTURE["snr_db"].holds(worst):
            raise ConversionError(
                f"{captured.method} froze something: on other inputs {name} differs from the model's "
                f"(snr_db {worst:.1f}, and equal programs have over {CAPTURE['snr_db'].min:g})",
                key="capture.method",
            )


def _check_other_shapes(prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs) -> None:
    """Raise ConversionError when capture froze a size that the app may choose: wrong shapes, or none at all."""
    for sample in examples.other_shapes:
        tensors = list(sample.tensors.values())
        said = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sample.tensors.items())
        with torch.no_grad():
            wanted = [tuple(output.shape) for output in prepared.module(*tensors)]
        try:
            found = [tuple(output.shape) for output in captured.run(*tensors)]
        except Exception as error:
            raise ConversionError(
                f"{captured.method} froze a size: the captured program does not run for {said}: {_first_line(error)}",
                key="capture.method",
            ) from error
        if found != wanted:
            raise ConversionError(
                f"{captured.method} froze a size: for {said} the captured program gives {found} instead of {wanted}",
                key="capture.method",
            )
    reset_states(prepared.module, prepared.states.values())


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _attention_in_operators() -> Iterator[None]:
    """Keep torch from fusing attention into `_native_multi_head_attention`, which coremltools cannot convert."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
