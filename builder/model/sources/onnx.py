"""An ONNX file, run by onnxruntime: the original that its Core ML model is compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from builder.artifacts import LoadedModel
from builder.errors import SourceError
from builder.model.sources.checkpoint import check_digest
from builder.model.sources.download import file_digest
from builder.model.sources.optional import optional_packages
from builder.spec import BuildSpec
from builder.spec.inputs import captured_shape
from builder.spec.source import OnnxSource
from builder.util.suggest import did_you_mean

DOMAIN = "builder"
"""The operator domain of the node that stands for a whole model in an exported graph, until it is put in."""


class OnnxModule(torch.nn.Module):
    """An ONNX graph as a module: takes tensors in the recipe's order, returns a dictionary of its outputs."""

    def __init__(self, model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """`inputs` are the file's own names in the recipe's order, `outputs` in its own."""
        super().__init__()
        self.graph = model
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._dtypes = tuple(_input_dtypes(model)[name] for name in self.inputs)
        self._session = make_session(model)

    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the graph; ids that the recipe gives as int32 become int64 where the file wants them so."""
        given = [x.to(dtype) for x, dtype in zip(inputs, self._dtypes, strict=True)]
        returned: Any = _Run.apply(self, *given)  # type: ignore[no-untyped-call]  # torch
        results = returned if isinstance(returned, tuple) else (returned,)
        return {as_feature(name): result for name, result in zip(self.outputs, results, strict=True)}

    def run(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs for inputs of the file's own dtypes."""
        given = {name: x.detach().numpy() for name, x in zip(self.inputs, inputs, strict=True)}
        return tuple(torch.from_numpy(result) for result in self._session.run(list(self.outputs), given))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
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


def load_onnx(source: OnnxSource, spec: BuildSpec) -> LoadedModel:
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
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, the checker and missing external data raise types of their own
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(
            f"{path} is damaged, or no ONNX file: {said}",
            hint="external data lies beside the file, under the name that it was saved with",
            key="source.file",
        ) from error
    model = onnx.inliner.inline_local_functions(model)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in initializers}
    order = tuple(_named(name, inputs, path) for name in spec.input)
    unused = [name for name in inputs if name not in order]
    if unused:
        raise SourceError(
            f"{path} takes an input {unused[0]} too, which the recipe does not give",
            hint=f"the file's inputs are {', '.join(map(as_feature, inputs))}",
            key="input",
        )
    for name, own in zip(spec.input, order, strict=True):
        _check_input(path, name, inputs[own], spec)
    outputs = tuple(value.name for value in model.graph.output)
    try:
        module = OnnxModule(model, order, outputs)
    except Exception as error:  # onnxruntime has an exception for each of its status codes
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"onnxruntime cannot run {path}: {said}", key="source.file") from error
    # What it weighs, for the report: the bytes of the file, mapped and never read.
    size = path.stat().st_size
    module.register_buffer("content", torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8))
    return LoadedModel(
        module=module.eval(),
        digest=_whole_digest(path, digest),
        origin={"kind": "onnx", "file": path.name, "file_sha256": digest, "opset": opset_of(model)}
        | {"onnxruntime": onnxruntime.__version__},
    )


def as_feature(name: str) -> str:
    """The file's name as Core ML and Swift accept it: `input.1` becomes `input_1`."""
    plain = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    return plain if plain.isidentifier() else f"_{plain}"


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators that a model uses."""
    return max((int(used.version) for used in model.opset_import if used.domain in ("", "ai.onnx")), default=1)


def make_session(model: Any) -> Any:
    """An onnxruntime session on the CPU, with one thread, silent."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _named(name: str, known: Mapping[str, Any], path: Path) -> str:
    """The file's own name of what the recipe calls `name`."""
    for own in known:
        if name in (own, as_feature(own)):
            return own
    names = [as_feature(own) for own in known]
    raise SourceError(
        f"{path} has no input {name}; it has {', '.join(names)}",
        hint=did_you_mean(name, names) or f"name it {names[0]}",
        key=f"input.{name}",
    )


def _check_input(path: Path, name: str, value: Any, spec: BuildSpec) -> None:
    import onnx

    given = spec.input[name]
    shape = captured_shape(given)
    kind = value.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
    fits = not kind.HasField("shape") or (
        len(sizes) == len(shape) and all(s == w for s, w in zip(sizes, shape, strict=True) if isinstance(s, int))
    )
    if not fits:
        raise SourceError(
            f"{path} takes {name} of shape ({', '.join(map(str, sizes))}), and the recipe gives {shape}",
            key=f"input.{name}.shape",
        )
    floating = kind.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    if floating == (getattr(given, "dtype", "float32") == "int32"):
        own = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        raise SourceError(
            f"{path} takes {name} as {own}, and the recipe gives {getattr(given, 'dtype', 'a picture')}",
            hint=f"write `dtype: {'float32' if floating else 'int32'}`",
            key=f"input.{name}",
        )


def _input_dtypes(model: Any) -> dict[str, torch.dtype]:
    import onnx

    dtypes = {}
    for value in model.graph.input:
        numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        dtypes[value.name] = getattr(torch, str(numpy_dtype), torch.float32)
    return dtypes


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
