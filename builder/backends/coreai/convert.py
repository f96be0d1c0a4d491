"""The convert stage for `.aimodel`: an exported program as an asset, with declared inputs, outputs and precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

from builder.artifacts.stages import CapturedProgram, ConvertedModel, ExampleInputs, PreparedModel, UsedLowering
from builder.backends.coreai.archive import Asset
from builder.backends.coreai.compression.module_forms import module_forms
from builder.backends.coreai.compression.restore import restore
from builder.backends.coreai.conversion import Declared, Halves
from builder.backends.coreai.conversion import convert as convert_program
from builder.backends.coreai.declared import declared_output, declared_types, features
from builder.backends.coreai.modules import operator_modules, operator_origins
from builder.backends.coreai.programs import source_program
from builder.model.sources.coreml import file_forms
from builder.spec import BuildSpec
from builder.spec.precision import Fp32, Mixed
from builder.spec.target import target_of_format
from builder.util.text import first_of


def convert(
    prepared: PreparedModel, captured: CapturedProgram, examples: ExampleInputs, spec: BuildSpec
) -> ConvertedModel:
    """Convert a captured program. Raises ConversionError naming what cannot be, ConfigurationError for patterns."""
    source = source_program(prepared, captured, examples, spec)
    folder = Path(tempfile.mkdtemp(prefix="builder-coreai-"))
    asset = Asset(folder / "model.aimodel", folder, _known(prepared, spec))
    given = spec.artifact_inputs
    declared = Declared(
        inputs={name: declared_types(given[name]) for name in source.inputs},
        outputs={
            name: declared_output(name, spec, is_integer=name in prepared.integer_outputs) for name in source.outputs
        },
        states={name: (path, spec.state[name].dtype) for name, path in prepared.states.items()},
        shapes={name: given[name].enumerated_shapes or () for name in source.inputs},
    )
    converted = convert_program(source.program, asset.path, declared, _halves(spec))
    origins = operator_origins(asset.path, converted.origins)
    asset, plain = _restored(prepared, asset)
    lowerings = [
        UsedLowering(operator=name, why="coreai-torch has no lowering for it, or gets it wrong", times=times)
        for name, times in converted.decomposed.items()
    ]
    if converted.exact_casts:
        why = "coreai-core folds casts through integers away, and narrow ones saturate (apple/coreai-torch#9)"
        lowerings.append(UsedLowering(operator="aten._to_copy.default", why=why, times=converted.exact_casts))
    line = f"{sum(converted.operators.values())} operators"
    target = target_of_format(spec.target, spec.format)
    if target != spec.target:
        line += f", for {target.name}: Core AI is not in {spec.target.name}"
    if plain:
        line += f"; stored plain: {first_of(plain, 3)}"
    return ConvertedModel(
        model=asset,
        lowerings=(*source.lowerings, *lowerings),
        summary=line,
        modules={name: path for name, (_, path) in origins.items() if path} | operator_modules(asset.path),
        names={name: operator for name, (operator, _) in origins.items()},
    )


def _restored(prepared: PreparedModel, asset: Asset) -> tuple[Asset, list[str]]:
    """The asset with weights as a finished Core ML file has them, or as steps on the PyTorch model made them.

    Also the names of those that the conversion has folded into something else, which are stored plain.
    """
    forms = file_forms(prepared.module) | module_forms(prepared.module)
    if not forms:
        return asset, []
    folder = Path(tempfile.mkdtemp(prefix="builder-coreai-"))
    small = Asset(folder / "model.aimodel", folder, asset.known)
    return small, restore(asset.path, small.path, forms)


def _known(prepared: PreparedModel, spec: BuildSpec) -> dict[str, object]:
    labels = prepared.labels if spec.classifier is not None or spec.detection is not None else None
    found: dict[str, object] = {"inputs": features(spec)}
    if labels is not None:
        found["labels"] = list(labels)
    return found


def _halves(spec: BuildSpec) -> Halves | None:
    precision = spec.precision
    if isinstance(precision, Fp32):
        return None
    if not isinstance(precision, Mixed):
        return Halves()
    return Halves(
        fp32_op_types=tuple(precision.fp32_op_types),
        fp32_modules=tuple(precision.fp32_modules),
        fp32_names=tuple(precision.fp32_names),
        fp32_op_types_if_present=tuple(precision.fp32_op_types_if_present),
    )
