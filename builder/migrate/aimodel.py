"""`.aimodel`: the program by Core AI's converter, in the types of the file, sealed like every artifact."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from builder.artifacts.stages import Sample
from builder.backends.coreai.compression.restore import restore
from builder.backends.coreai.conversion import Declared, Halves, convert
from builder.backends.coreai.declared import declared_types, known_features
from builder.backends.coreai.engine import interpreter
from builder.backends.coreai.sealing import Metadata, seal
from builder.migrate.original import Inputs
from builder.migrate.plain import stored_plain
from builder.migrate.proof import Engine
from builder.migrate.pt2 import metadata_of
from builder.model.capture.composites import run_decompositions
from coreml_runtime import Model, State, load
from coreml_runtime.export import Exported
from coreml_runtime.features import ArrayFeature

_TYPES = {"fp16": "float16", "fp32": "float32", "int32": "int32", "int8": "int8", "bool": "bool"}


def write(exported: Exported, inputs: Inputs, destination: Path) -> Sequence[str]:
    """Convert and seal; raises ConversionError for operators that Core AI has not."""
    declared = Declared(
        inputs={name: declared_types(given) for name, given in inputs.items()},
        outputs={name: _output_type(exported.features.get(name)) for name in exported.outputs},
        states={name: (path, _state_type(exported, path)) for name, path in exported.states.items()},
    )
    halves = Halves(fp32_modules_if_present=exported.single) if exported.has_half else None
    program = run_decompositions(exported.program, {})
    with tempfile.TemporaryDirectory(prefix="builder-migrate-") as folder:
        made = Path(folder) / "model.aimodel"
        convert(program, made, declared, halves)
        plain: Sequence[str] = ()
        if exported.forms:
            small = Path(folder) / "small.aimodel"
            plain = restore(made, small, exported.forms)
            made = small
        seal({"": made}, destination, _metadata(exported, inputs))
    return stored_plain(exported, plain)


def _output_type(feature: object) -> str | None:
    return _TYPES.get(feature.dtype, "float32") if isinstance(feature, ArrayFeature) else None


def _state_type(exported: Exported, path: str) -> str:
    """States are kept in half precision, as Core ML keeps them."""
    kind = exported.program.state_dict[path].dtype
    return "float16" if kind is torch.float32 and exported.has_half else str(kind).removeprefix("torch.")


def _metadata(exported: Exported, inputs: Inputs) -> Metadata:
    known = metadata_of(exported.specification)
    own: dict[str, object] = {"inputs": known_features(inputs), "user": known.get("user", {})}
    if exported.labels is not None:
        own["labels"] = list(exported.labels)
    if "version" in known:
        own["version"] = known["version"]
    return Metadata(
        author=known.get("author", ""), license=known.get("license", ""), description=known.get("description", ""),
        own=own,
    )  # fmt: skip


def engines(exported: Exported, path: Path) -> Sequence[Engine]:
    """Our runtime for all samples, and Apple's interpreter, which is slow, for few."""
    model, kept = load(path), list[State]()

    def begin() -> None:
        kept[:] = [model.make_state()] if model.states else []

    def execute(sample: Sample) -> Mapping[str, torch.Tensor]:
        found = model.predict(_feeds(model, exported, sample), state=kept[0] if kept else None)
        return {name: torch.as_tensor(value) for name, value in found.items()}

    return (Engine(name="runtime", execute=execute, begin=begin), _apples(exported, model, path))


def _apples(exported: Exported, model: Model, path: Path) -> Engine:
    engine, opened = interpreter(path, ""), list[Any]()

    def begin() -> None:
        opened[:] = [engine.open({})]

    def execute(sample: Sample) -> Mapping[str, torch.Tensor]:
        found = opened[0](_feeds(model, exported, sample))
        return {name: torch.as_tensor(value) for name, value in found.items()}

    return Engine(name=engine.name, execute=execute, begin=begin, samples=engine.samples)


def _feeds(model: Model, exported: Exported, sample: Sample) -> dict[str, object]:
    """Pictures as bytes, and everything as the asset declares it."""
    typed = partial(_typed, model)
    return {each.name: typed(each.name, sample.tensors[each.name]).numpy() for each in exported.inputs}


def _typed(model: Model, name: str, value: torch.Tensor) -> torch.Tensor:
    feature = model.inputs[name]
    names = {"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32, "uint8": torch.uint8}
    dtype = names.get(feature.dtype, value.dtype) if isinstance(feature, ArrayFeature) else value.dtype
    return value.to(dtype).contiguous()
