"""Capture as an ONNX graph: of a PyTorch module by torch.onnx, and of an ONNX source with what surrounds it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from builder.artifacts.stages import PreparedModel
from builder.errors import ConversionError
from builder.model.capture.onnx_branches import deciding_inputs, without_known_branches
from builder.model.capture.onnx_upgrade import upgraded
from builder.model.sources.onnx import DOMAIN, USUAL, OnnxModule, make_session
from builder.model.sources.onnx_graph import opset_of
from builder.model.sources.optional import optional_packages

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_LOG = logging.getLogger("builder.capture")
_OPSETS = range(9, 21)
"""What torch.onnx's tracing exporter writes."""
_OPSET = 18
"""What a PyTorch module is exported to: known to onnxruntime and onnxsim in every version that we allow."""


class OnnxProgram:
    """A simplified ONNX graph that onnxruntime runs; inputs and outputs as the recipe names them."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self._names = tuple(value.name for value in model.graph.input)
        self._session = make_session(model)

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run on one tensor for each input; one tensor for each output."""
        given = {name: x.numpy() for name, x in zip(self._names, inputs, strict=True)}
        return tuple(torch.from_numpy(result) for result in self._session.run(None, given))


def capture_onnx(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...], names: Sequence[str]) -> OnnxProgram:
    """Export `prepared.module` with normalisation, softmax and pictures; an ONNX source is put in as it is.

    torch.onnx writes the surroundings of an ONNX source with one node in its place, which its graph then replaces:

    Given:   %x = Mul(%image, scale);  %y = builder.Model(%x);  %probabilities = Softmax(%y)
    Result:  %x = Mul(%image, scale);  … all nodes of the file …;  %probabilities = Softmax(%y)
    """
    with optional_packages("onnx"):
        import onnx
        import onnxsim  # noqa: F401 - what is missing is said first
    source = next((m for m in prepared.module.modules() if isinstance(m, OnnxModule)), None)
    inner = None if source is None else upgraded(source.graph, _OPSET)
    opset = _OPSET if inner is None else min(max(opset_of(inner), _OPSETS.start), _OPSETS.stop - 1)
    model = onnx.load_from_string(_export(prepared, inputs, names, opset))
    if source is not None:
        model = _put_in(model, inner, source)
        _declare_outputs(model, prepared, inputs)
        model = without_known_branches(model)
    try:
        return OnnxProgram(_inferred(simplified(model)))
    except Exception as error:  # onnxruntime's C++ code raises whatever
        deciding = deciding_inputs(model)
        if not deciding:
            raise
        raise ConversionError(
            f"{deciding[0]} decides which branch of the graph is taken, and a branch of it does not go with the other "
            f"inputs: {str(error).splitlines()[0]}",
            hint=f"bake it in, with the value for which the artifact is made: `{deciding[0]}: {{constant: …}}`",
            code="B0402",
            key=f"input.{deciding[0]}",
        ) from error


def simplified(model: ModelProto) -> ModelProto:
    """The graph with its constants folded; as it is where onnxsim fails on it or changes what it computes.

    Constants of a shape that follows from a fixed input are folded; what stays open is for the app to choose.
    """
    import onnxsim

    try:
        with _silence():
            folded, agrees = onnxsim.simplify(model)
    except Exception as error:  # its C++ code raises RuntimeError and others, for valid files too
        _LOG.warning("not simplified: onnxsim fails: %s", error)
        return model
    if not agrees:
        _LOG.warning("not simplified: onnxsim changes what the graph computes")
        return model
    return folded


def read_onnx(data: bytes) -> OnnxProgram:
    """The program that `data` is the file of."""
    with optional_packages("onnx"):
        import onnx
    return OnnxProgram(onnx.load_from_string(data))


def _export(prepared: PreparedModel, inputs: tuple[torch.Tensor, ...], names: Sequence[str], opset: int) -> bytes:
    stream = io.BytesIO()
    axes = {
        name: {dimension: size.name for dimension, size in sizes.items()}
        for name, sizes in zip(names, prepared.flexible, strict=False)
        if sizes
    }
    with warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is deprecated
        torch.onnx.export(
            prepared.module,
            inputs,
            stream,  # type: ignore[arg-type]  # takes a stream as well, when it does not go by dynamo
            input_names=list(names),
            output_names=list(prepared.output_names),
            dynamic_axes=axes or None,
            opset_version=opset,
            custom_opsets={DOMAIN: 1},
            do_constant_folding=True,
            dynamo=False,
        )
    return stream.getvalue()


def _put_in(outer: ModelProto, model: ModelProto, source: OnnxModule) -> ModelProto:
    """Replace the node that stands for the ONNX source by all nodes of its graph, with names of their own."""
    import onnx
    from onnx import compose, helper

    # Named here because add_prefix forgets the constants of a graph that graphs inside its nodes use.
    constants = {tensor.name: f"model/{tensor.name}" for tensor in model.graph.initializer}
    inner = compose.add_prefix_graph(model.graph, "model/", name_map=constants)
    place = next(index for index, node in enumerate(outer.graph.node) if node.domain == DOMAIN)
    stand_in = outer.graph.node[place]
    before, after = list(outer.graph.node[:place]), list(outer.graph.node[place + 1 :])
    given = [
        helper.make_node("Cast", [here], [f"model/{own}"], to=helper.np_dtype_to_tensor_dtype(dtype))
        for here, own, dtype in zip(stand_in.input, source.inputs, source.dtypes, strict=True)
    ]
    returned = [
        _returned(f"model/{value.name}", here, value.type.tensor_type.elem_type)
        for here, value in zip(stand_in.output, source.graph.graph.output, strict=True)
    ]
    graph = onnx.GraphProto()
    graph.CopyFrom(outer.graph)
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend([*before, *given, *inner.node, *returned, *after])
    graph.initializer.extend(inner.initializer)
    graph.sparse_initializer.extend(inner.sparse_initializer)
    imports = {used.domain: used.version for used in model.opset_import}
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(domain, version) for domain, version in imports.items()]
    )
    made.ir_version = max(model.ir_version, outer.ir_version)
    return made


def _returned(own: str, here: str, kind: int) -> NodeProto:
    """The node that gives an output of the file its name around it, in the dtype in which the source returns it."""
    import onnx
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if dtype.name in USUAL:
        return helper.make_node("Identity", [own], [here])
    to = onnx.TensorProto.INT64 if dtype.kind in "iu" else onnx.TensorProto.FLOAT
    return helper.make_node("Cast", [own], [here], to=to)


def _declare_outputs(model: ModelProto, prepared: PreparedModel, inputs: tuple[torch.Tensor, ...]) -> None:
    """Give each output its dtype, and its shape where inputs are fixed: the exporter cannot see into the stand-in."""
    import onnx

    with torch.no_grad():
        outputs = prepared.module(*inputs)
    for value, output in zip(model.graph.output, outputs, strict=True):
        kind = value.type.tensor_type
        kind.elem_type = onnx.helper.np_dtype_to_tensor_dtype(output.numpy().dtype)
        kind.ClearField("shape")
        for index, size in enumerate(output.shape):
            dimension = kind.shape.dim.add()
            if any(prepared.flexible):
                dimension.dim_param = f"{value.name}_{index}"
            else:
                dimension.dim_value = size


def _inferred(model: ModelProto) -> ModelProto:
    """The model with the shapes of its outputs, where inference finds them."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        _LOG.debug("%s", error)
        return model


@contextmanager
def _silence() -> Iterator[None]:
    """Send to the log what the exporter's C++ code writes to the process's own stderr and stdout."""
    with contextlib.ExitStack() as scoped:
        file = scoped.enter_context(tempfile.TemporaryFile())
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is None:
                continue
            stream.flush()
            saved = os.dup(stream.fileno())
            os.dup2(file.fileno(), stream.fileno())
            scoped.callback(os.close, saved)
            scoped.callback(os.dup2, saved, stream.fileno())
            scoped.callback(stream.flush)
        scoped.enter_context(contextlib.redirect_stdout(io.StringIO()))
        try:
            yield
        finally:
            file.seek(0)
            for line in file.read().decode(errors="replace").splitlines():
                _LOG.debug("%s", line)
