"""`.onnx`: the program by torch's exporter, in the types of the file, with its metadata; executed by onnxruntime."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from builder.artifacts.stages import Sample
from builder.errors import ConversionError, UnfitEnvironmentError
from builder.migrate.onnx_functions import translations
from builder.migrate.onnx_graph import name_nodes, simplify
from builder.migrate.onnx_weights import LEAST_OPSET, store
from builder.migrate.original import Inputs
from builder.migrate.plain import stored_plain
from builder.migrate.proof import Engine, innermost
from builder.migrate.pt2 import described
from coreml_runtime.export import Exported

if TYPE_CHECKING:
    from onnx import ModelProto

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_installed() -> None:
    """Raise UnfitEnvironmentError, with the command, where a package is missing."""
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UnfitEnvironmentError(
                f"export --to onnx needs {name}, which is not installed",
                code="B0701",
                hint="pip install 'coreml-builder[onnx]' -c constraints.txt",
            ) from error


def write(exported: Exported, inputs: Inputs, destination: Path) -> Sequence[str]:  # noqa: ARG001 - as all formats
    """Convert and save; raises ConversionError for states and for what the exporter cannot convert."""
    import onnx

    if exported.states:
        raise ConversionError(
            f"the model keeps states ({', '.join(exported.states)}), which ONNX does not have",
            code="B0418",
            hint="export it to pt2 or aimodel, which have them",
        )
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    opset = LEAST_OPSET if exported.forms else None
    try:
        converted = torch.onnx.export(
            exported.program, dynamo=True, verbose=False, optimize=False, opset_version=opset,
            input_names=[each.name for each in exported.inputs], output_names=list(exported.outputs),
            custom_translation_table=dict(translations()),
        )  # fmt: skip
    except Exception as error:  # the exporter has many types of its own
        raise ConversionError(
            f"torch's exporter cannot write it as ONNX: {innermost(error)}",
            code="B0418",
            hint="export it to pt2 or aimodel",
        ) from error
    assert converted is not None, "of an exported program dynamo makes one"
    simplify(converted.model, exported.forms)
    name_nodes(converted.model, exported.paths)
    model = converted.model_proto
    plain = store(model, exported.forms)
    _describe(model, exported)
    onnx.save(model, str(destination))
    return stored_plain(exported, plain)


def _describe(model: ModelProto, exported: Exported) -> None:
    """Take out what names this machine, and put in what the original says of itself."""
    import onnx

    for node in (*model.graph.node, *(each for function in model.functions for each in function.node)):
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.metadata_props[:]
    known = described(exported)
    metadata = known.pop("metadata")
    entries = {"builder": json.dumps(known, sort_keys=True), **{k: str(v) for k, v in metadata.items() if k != "user"}}
    onnx.helper.set_model_props(model, {**metadata.get("user", {}), **entries})


def engines(exported: Exported, path: Path) -> Sequence[Engine]:
    """onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says of errors, with names of the file, is raised as well
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}

    def execute(sample: Sample) -> Mapping[str, torch.Tensor]:
        feeds = {
            each.name: sample.tensors[each.name].to(each.dtype).numpy()
            for each in exported.inputs
            if each.name in taken
        }
        found = session.run(list(exported.outputs), feeds)
        return {name: torch.as_tensor(value) for name, value in zip(exported.outputs, found, strict=True)}

    return (Engine(name=f"onnxruntime {onnxruntime.__version__}", execute=execute, begin=lambda: None),)
