"""An ONNX file, run by onnxruntime: the original that its Core ML model is compared with."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from builder.artifacts.stages import LoadedModel
from builder.errors import SourceError
from builder.model.sources.download import check_digest, file_digest
from builder.model.sources.onnx_batch import check_opened, open_batch
from builder.model.sources.onnx_dequantized import dequantize, difference_db
from builder.model.sources.onnx_floats import in_float64, to_float32
from builder.model.sources.onnx_graph import (
    bake_in,
    change_weights,
    channels_first,
    declare_types,
    feature_names,
    free_initializers,
    open_negative_sizes,
    opset_of,
    refuse_growing_functions,
    refuse_quantized,
)
from builder.model.sources.optional import optional_packages
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.inputs import ConstantInput, ImageInput, RangeDimension, TensorInput, model_shape
from builder.spec.source import OnnxSource
from builder.util.bounded import bounded
from builder.util.suggest import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto, TypeProto, ValueInfoProto
    from onnxruntime import InferenceSession


DOMAIN = "builder"
"""The operator domain of the node that stands for a whole model in an exported graph, until it is put in."""


USUAL = ("bool", "int32", "int64", "float16", "float32", "float64")
"""The dtypes that results keep in torch."""


class OnnxModule(torch.nn.Module):
    """An ONNX graph as a module: takes what the recipe says in its order, returns a dictionary of its outputs."""

    def __init__(self, model: ModelProto, inputs: Sequence[str], constants: Sequence[str] = ()) -> None:
        """`inputs` are the file's own names in the recipe's order; `constants` among them are baked in already."""
        super().__init__()
        self.graph = model
        self.inputs = tuple(name for name in inputs if name not in constants)
        self.outputs = tuple(value.name for value in model.graph.output)
        self._given = tuple(index for index, name in enumerate(inputs) if name not in constants)
        declared = {value.name: value.type.tensor_type for value in model.graph.input}
        self.dtypes = tuple(_dtype(declared[name]) for name in self.inputs)
        self._scalars = tuple(_is_scalar(declared[name]) for name in self.inputs)
        self._features = feature_names(self.outputs)
        self._session = make_session(model)

    def forward(self, *inputs: Any) -> dict[str, torch.Tensor]:
        """Run the graph; ids that the recipe gives as int32 become int64 where the file wants them so."""
        taken = (inputs[index] for index in self._given)
        given = [x.reshape(()) if scalar and x.ndim else x for x, scalar in zip(taken, self._scalars, strict=True)]
        returned: object = _Run.apply(self, *given)  # type: ignore[no-untyped-call]  # torch
        results = returned if isinstance(returned, tuple) else (returned,)
        return {self._features[name]: result for name, result in zip(self.outputs, results, strict=True)}

    def run(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs for inputs of the file's own ranks; dtypes that are unusual in torch become larger ones."""
        given = {
            name: x.detach().numpy().astype(dtype)
            for name, x, dtype in zip(self.inputs, inputs, self.dtypes, strict=True)
        }
        with bounded("the ONNX graph"):
            results = self._session.run(list(self.outputs), given)
        return tuple(_as_torch(result) for result in results)

    def without_optimisations(self) -> Self:
        """The same graph, run operator by operator as the file has them: what it computes but for its rounding."""
        other = copy.copy(self)
        other._session = make_session(self.graph, optimised=False)
        return other.eval()

    def in_float64(self) -> Self:
        """The same graph computed in float64; raises where onnxruntime has no such kernel for one of its operators."""
        import numpy as np

        other = copy.copy(self)
        other._session = make_session(in_float64(self.graph))
        other.dtypes = tuple(np.dtype(np.float64) if dtype == np.float32 else dtype for dtype in self.dtypes)
        return other.eval()

    def with_weights(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        """The same graph with other weights: arrays of several numbers."""
        graph = copy.deepcopy(self.graph)
        change_weights(graph, change)
        other = copy.copy(self)
        other._session = make_session(graph)
        return other.eval()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # nothing changes it: a graph has no modules to rewrite


class _Run(torch.autograd.Function):
    """One node for the whole graph, which torch.onnx writes into what it exports around it."""

    @staticmethod
    def forward(ctx: Any, module: OnnxModule, *inputs: torch.Tensor) -> Any:  # noqa: ARG004 - torch's protocol
        results = module.run(inputs)
        return results if len(results) > 1 else results[0]

    @staticmethod
    def symbolic(graph: Any, module: OnnxModule, *inputs: Any) -> Any:
        return graph.op(f"{DOMAIN}::Model", *inputs, outputs=len(module.outputs))


def load_onnx(source: OnnxSource, spec: BuildSpec, progress: Progress) -> LoadedModel:
    """Load the file; raises SourceError when it is damaged, or its inputs are not the recipe's."""
    with optional_packages("onnx"):
        import onnx
        import onnxruntime
        import onnxsim  # noqa: F401 - what is missing is said before anything is read
    path = Path(source.file)
    digest = file_digest(path)
    check_digest(path, digest, source.sha256)
    try:
        model = onnx.load(str(path), load_external_data=True)
        refuse_growing_functions(model)
        _check(model)
    except Exception as error:  # protobuf, the checker and missing external data raise types of their own
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(
            f"{path} is damaged, or no ONNX file: {message}",
            code="B0302",
            hint="external data lies beside the file, under the name that it was saved with",
            key="source.file",
        ) from error
    model = onnx.inliner.inline_local_functions(model)
    open_negative_sizes(model)
    to_float32(model)
    quantized = copy.deepcopy(model) if source.dequantize else None
    if source.dequantize:
        dequantize(model, path)
    refuse_quantized(model, path)
    for value in model.graph.output:
        _refuse_other_kinds(value, path, f"returns {value.name}", "source")
    for value in model.graph.input:
        _refuse_other_kinds(value, path, f"takes {value.name}", "source")
    fixed = copy.deepcopy(model) if source.open_batch else None
    batch = open_batch(model, path) if source.open_batch else 0
    for each in (model, fixed, quantized):
        if each is not None:
            _turn_pictures(each, spec)
    order = _order(model, spec, path)
    constants = {
        own: (name, given)
        for own, (name, given) in zip(order, spec.input.items(), strict=True)
        if isinstance(given, ConstantInput)
    }
    for each in (model, fixed, quantized):
        if each is not None:
            bake_in(each, constants, path)
            free_initializers(each, [own for own in order if own not in constants])
    try:
        module = OnnxModule(model, order, tuple(constants))
        if fixed is not None:
            check_opened(make_session(fixed), make_session(model), batch, path, _largest_batch(spec))
        if quantized is not None:
            pairs = zip(order, spec.input.values(), strict=True)
            given = {own: each for own, each in pairs if not isinstance(each, ConstantInput)}
            found = difference_db(make_session(quantized), make_session(model), given)
            progress.warn(
                f"{path} is computed in float, with its weights as they are; what the file computes, rounding to 8 "
                f"bits on the way, is {found:.1f} dB from that on draws of what the recipe declares",
                code="B0021",
            )
    except SourceError:
        raise
    except Exception as error:  # onnxruntime has an exception for each of its status codes
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"onnxruntime cannot run {path}: {message}", code="B0318", key="source.file") from error
    # What it weighs, for the report: the bytes of the file, mapped and never read.
    size = path.stat().st_size
    module.register_buffer("content", torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8))
    return LoadedModel(
        module=module.eval(),
        digest=_whole_digest(path, digest),
        origin={
            "kind": "onnx",
            "file": path.name,
            "file_sha256": digest,
            "opset": opset_of(model),
            "onnxruntime": onnxruntime.__version__,
        },
    )


def _check(model: ModelProto) -> None:
    """Raise what onnx's checker does, unless onnxruntime runs the file: it infers shapes that a file leaves out."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        try:
            session = make_session(model)
        except Exception:  # onnxruntime has an exception for each of its status codes; the checker's reason is plainer
            session = None
        if session is None or not model.graph.output:
            raise
        declare_types(model, session)


def make_session(model: ModelProto, *, optimised: bool = True) -> InferenceSession:
    """An onnxruntime session on the CPU, with one thread, silent; unless `optimised`, each operator by itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what is wrong is raised as well, and shown once
    onnxruntime.set_default_logger_severity(4)  # of its allocator, for instance, which does not know of sessions
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _order(model: ModelProto, spec: BuildSpec, path: Path) -> tuple[str, ...]:
    """The file's own names of the recipe's inputs; raises SourceError where they do not fit each other."""
    known = {value.name: value for value in model.graph.input}
    features = feature_names(tuple(known))
    order = tuple(_named(name, given.source_name or name, features, path) for name, given in spec.input.items())
    optional = {tensor.name for tensor in model.graph.initializer}
    unused = [name for name in known if name not in order and name not in optional]
    if unused:
        raise SourceError(
            f"{path} takes an input {unused[0]} too, which the recipe does not give",
            code="B0315",
            hint=f"the file's inputs are {', '.join(features.values())}; "
            f"`{features[unused[0]]}: {{constant: 0}}` bakes one in",
            key="input",
        )
    for name, own in zip(spec.input, order, strict=True):
        given = spec.input[name]
        if not isinstance(given, ConstantInput):
            _check_input(path, name, known[own], given)
    return order


def _turn_pictures(model: ModelProto, spec: BuildSpec) -> None:
    """Let pictures be (N, C, H, W) where the file takes them as (N, H, W, C), as models of TensorFlow do."""
    known = {value.name: value for value in model.graph.input}
    features = feature_names(tuple(known))
    for name, given in spec.input.items():
        called = given.source_name or name
        own = next((own for own, feature in features.items() if called in (own, feature)), None)
        if isinstance(given, ImageInput) and own is not None:
            channels = given.shape[1]
            sizes = [d.dim_value for d in known[own].type.tensor_type.shape.dim]
            if len(sizes) == 4 and sizes[3] == channels != sizes[1]:
                channels_first(model, known[own])


def _named(name: str, called: str, features: Mapping[str, str], path: Path) -> str:
    """The file's own name of what the recipe calls `called`, its input `name`."""
    for own, feature in features.items():
        if called in (own, feature):
            return own
    names = list(features.values())
    raise SourceError(
        f"{path} has no input {called}; it has {', '.join(names)}",
        code="B0315",
        hint=did_you_mean(called, names) or f"name it {names[0]}",
        key=f"input.{name}" if called == name else f"input.{name}.source_name",
    )


def _check_input(path: Path, name: str, value: ValueInfoProto, given: ImageInput | TensorInput) -> None:
    import onnx

    kind = value.type.tensor_type
    shape = model_shape(given)
    sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
    fits = not kind.HasField("shape") or (
        len(sizes) == len(shape) and all(s == w for s, w in zip(sizes, shape, strict=True) if isinstance(s, int))
    )
    if not fits and not (not sizes and shape == (1,)):  # the app gives a scalar as an array of one element
        raise SourceError(
            f"{path} takes {name} of shape ({', '.join(map(str, sizes))}), and the recipe gives {shape}",
            code="B0316",
            hint=_hint_for_shape(name, sizes, shape),
            key=f"input.{name}.shape",
        )
    floating = kind.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    own = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    if isinstance(given, ImageInput) and not floating:
        if given.scale != 1 or given.bias not in (None, 0):
            raise SourceError(
                f"{path} takes {name} as {own}, which are the levels of a picture as they are",
                code="B0316",
                hint="write `scale: 1` in place of what normalises: the file does that itself",
                key=f"input.{name}",
            )
    elif floating == (getattr(given, "dtype", "float32") == "int32"):
        raise SourceError(
            f"{path} takes {name} as {own}, and the recipe gives {getattr(given, 'dtype', '')}",
            code="B0316",
            hint=f"write `dtype: {'float32' if floating else 'int32'}`",
            key=f"input.{name}",
        )


def _hint_for_shape(name: str, sizes: Sequence[int | str], shape: Sequence[int]) -> str:
    """What to write, or to export anew: what the file fixes, a batch of 1 for instance, its operators may count on."""
    if len(sizes) != len(shape):
        return (
            f"write `shape: [{', '.join(map(str, sizes))}]`"
            if all(isinstance(s, int) for s in sizes)
            else (f"write {len(sizes)} sizes")
        )
    fits = [own if isinstance(own, int) else size for own, size in zip(sizes, shape, strict=True)]
    open_axes = {axis: f"size_{axis}" for axis, (own, size) in enumerate(zip(fits, shape, strict=True)) if own != size}
    opens = "`open_batch: true` under `source`, or " if set(open_axes) == {0} else ""
    return (
        f"write `shape: [{', '.join(map(str, fits))}]`, or {opens}export the model again with "
        f"`dynamic_axes={{{name!r}: {open_axes}}}`: what a file fixes, its operators may count on"
    )


def _largest_batch(spec: BuildSpec) -> int:
    """The largest first size that an input declares."""
    first = [given.shape[0] for given in spec.input.values() if not isinstance(given, ConstantInput) and given.shape]
    return max((size.max if isinstance(size, RangeDimension) else size for size in first), default=0)


def _refuse_other_kinds(value: ValueInfoProto, path: Path, does: str, key: str) -> None:
    """Raise SourceError for what is not an array of numbers: text, sequences, optional and sparse values."""
    import onnx

    form = value.type.WhichOneof("value")
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    if form != "tensor_type" or kind == "string":
        what = "text" if form == "tensor_type" else str(form).removesuffix("_type").replace("_", " ")
        raise SourceError(
            f"{path} {does} as {what}, and Core ML takes and gives arrays of numbers", code="B0318", key=key
        )
    if kind not in (*USUAL, "float", "double", "undefined", "int8", "uint8", "int16", "uint16", "uint32", "uint64"):
        raise SourceError(
            f"{path} {does} as {kind}, and Core ML's numbers are float32, float16 and int32", code="B0318", key=key
        )


def _dtype(kind: TypeProto.Tensor) -> Any:
    """The dtype of numpy in which onnxruntime takes an input."""
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)


def _as_torch(result: np.ndarray) -> torch.Tensor:
    """A result of onnxruntime; integers of other dtypes than torch's usual ones as int64, other floats as float32."""
    if result.dtype.name in USUAL:
        return torch.from_numpy(result)
    return torch.from_numpy(result.astype("int64" if result.dtype.kind in "iu" else "float32"))


def _is_scalar(kind: TypeProto.Tensor) -> bool:
    return kind.HasField("shape") and not kind.shape.dim


def _whole_digest(path: Path, digest: str) -> str:
    """`sha256:` over the file and the files with its external data."""
    import onnx

    bare = onnx.load(str(path), load_external_data=False)
    names = {
        entry.value
        for tensor in bare.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    lines = [digest, *(f"{file_digest(path.parent / name)}  {name}" for name in sorted(names))]
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}" if names else f"sha256:{digest}"
