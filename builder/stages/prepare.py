"""The prepare stage: substitutions, normalisation, named outputs, softmax; what is captured, and its reference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from builder.artifacts.stages import ExampleInputs, FlexibleSize, LoadedModel, PreparedModel, PreparedModules
from builder.backends.coreml.module_compression import compress_modules
from builder.backends.coreml.module_compression.module_context import module_context
from builder.checks.comparison import measure
from builder.errors import BuilderError, ConfigurationError, ConversionError
from builder.model.calling import Arguments
from builder.model.detection.detect import Detect, is_detector, make_detect, resolve_suppression
from builder.model.labels import check_object_labels, find_labels, read_object_labels
from builder.model.normalization import Normalization, resolve_levels, resolve_normalization
from builder.model.outputs import choose_outputs
from builder.model.states import check_states, reset_states
from builder.model.substitutions import substitute
from builder.model.substitutions.rewrite import copy_module
from builder.model.trial import refuse_uninitialised, try_out
from builder.model.uncertainty import Uncertainty
from builder.model.wrapper import ExportWrapper, Normalize, NormalizeAsTrained, ToLevels
from builder.spec import BuildSpec
from builder.spec.base import RESERVED_NAMES
from builder.spec.inputs import ImageInput, RangeDimension, TensorInput
from builder.spec.outputs import ImageOutput
from builder.util.process_state import said_by


def prepare(loaded: LoadedModel, examples: ExampleInputs, spec: BuildSpec) -> PreparedModel:
    """Make the module that is captured, in eval mode; `loaded` stays as it is.

    Raises ConversionError when a substitution fails, ConfigurationError when names, states or labels do not fit the
    model.
    """
    normalizations = _normalizations(loaded, spec)
    normalize = {index: Normalize(n) for index, n in normalizations.items()}
    named = read_object_labels(spec.detection, loaded) if spec.detection is not None else ()
    detect = _detect(spec, len(named), loaded, examples, normalize)
    arguments = Arguments(spec.input)
    deploy = partial(_deploy, spec, arguments, normalize, detect)
    states = {name: f"model.{state.buffer}" for name, state in spec.state.items()}

    def run(module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
        deployed = deploy(module).choose(chosen)
        reset_states(deployed, states.values())
        with torch.no_grad():
            results = [deployed(*sample.tensors.values()) for sample in examples.samples]
        return tuple(torch.stack(outputs) for outputs in zip(*results, strict=True))

    def others(module: torch.nn.Module) -> list[tuple[torch.Tensor, ...]]:
        deployed = deploy(module).choose(chosen)
        reset_states(deployed, states.values())
        buffers = dict(deployed.named_buffers(remove_duplicate=False)) if states else {}
        samples = [tuple(sample.tensors.values()) for sample in examples.samples]
        answers = Uncertainty(deployed, samples, {path: buffers[path] for path in states.values()})
        ways = zip(*(answers(number) for number in range(len(samples))), strict=False)  # one may not run everywhere
        return [tuple(torch.stack(outputs) for outputs in zip(*way, strict=True)) for way in ways]

    refuse_uninitialised(loaded.module)
    rewritten = bool(spec.substitutions or spec.module_compression)
    original = copy_module(loaded.module, share_parameters=not rewritten).eval()
    check_states(original, spec.state)
    as_trained = {index: _as_trained(n) for index, n in normalizations.items()}
    reference = _deploy(spec, arguments, as_trained, detect, original)

    def fresh() -> ExportWrapper:
        return _deploy(spec, arguments, as_trained, detect, copy_module(loaded.module, share_parameters=True).eval())

    returned, changed = try_out(arguments, reference, examples, spec, fresh)
    chosen = choose_outputs(spec, tuple(returned))
    reference.choose(chosen)
    outputs = {name: returned[name] for name in chosen}
    names = _output_names(spec, chosen)
    _check_outputs(spec, dict(zip(names, outputs.values(), strict=True)))
    labels = None
    if spec.classifier is not None:
        labels = find_labels(spec.classifier, loaded, next(iter(outputs.values())))
    elif spec.detection is not None:
        labels = check_object_labels(spec.detection, named, next(iter(returned.values())).shape[-1])
    substituted, effects = substitute(original, spec.substitutions, run, others)
    context = partial(module_context, spec=spec, normalize=normalize, examples=examples, published=loaded.preprocessing)
    compressed = compress_modules(
        substituted, spec.module_compression, run, context, names, partial(measure, scores=None)
    )
    uncompressed = deploy(substituted.eval()).choose(chosen)
    module = deploy(compressed.module.eval()).choose(chosen) if compressed.effects else uncompressed
    for used in (reference, uncompressed, module):
        used.forget(changed, loaded.module)
        reset_states(used, states.values())
    modules = PreparedModules(module=module, reference=reference, uncompressed=uncompressed)
    return PreparedModel(
        modules=lambda: modules,
        output_names=names,
        labels=labels,
        substitutions=effects,
        compression=compressed.effects,
        skipped=compressed.skipped,
        normalization={
            name: {"scale": normalizations[i].scale, "bias": normalizations[i].bias}
            for i, name in enumerate(spec.artifact_inputs)
            if i in normalizations
        },
        states=states,
        flexible=tuple(_flexible_sizes(name, given) for name, given in spec.artifact_inputs.items()),
        integer_outputs=tuple(
            name for name, output in zip(names, outputs.values(), strict=True) if not output.is_floating_point()
        ),
        preprocessing=loaded.preprocessing,
        suppression=None if detect is None or spec.detection is None else resolve_suppression(spec.detection, detect),
        file=loaded.digest if loaded.is_finished else None,
    )


def _detect(
    spec: BuildSpec,
    classes: int,
    loaded: LoadedModel,
    examples: ExampleInputs,
    normalize: Mapping[int, torch.nn.Module],
) -> Detect | None:
    """The part that decodes a detector's boxes, for pictures like the example."""
    if spec.detection is None:
        if is_detector(loaded.module):
            raise ConfigurationError(
                f"the model is a detector ({type(loaded.module).__name__}), and the recipe does not say so",
                code="B0251",
                hint="write `detection: {kind: torchvision}`, which decodes its boxes and keeps the best of them",
                key="source",
            )
        return None
    (picture,) = examples.samples[0].tensors.values()
    with torch.no_grad():
        picture = normalize[0](picture) if 0 in normalize else picture
    try:
        return make_detect(spec.detection, classes, copy_module(loaded.module).eval(), picture)
    except BuilderError:
        raise
    except Exception as error:  # whatever the model raises for a picture that it was not made for
        raise ConversionError(
            f"the model does not run on a picture of shape {tuple(picture.shape)}: {said_by(error)}",
            code="B0404",
            hint="compare shape and dtype of the input with what the model's forward takes",
            key="input",
        ) from error


def _normalizations(loaded: LoadedModel, spec: BuildSpec) -> dict[int, Normalization]:
    """By the number of an image input."""
    return {
        index: resolve_normalization(name, given, loaded.preprocessing)
        for index, (name, given) in enumerate(spec.artifact_inputs.items())
        if isinstance(given, ImageInput)
    }


def _deploy(
    spec: BuildSpec,
    arguments: Arguments,
    normalize: Mapping[int, torch.nn.Module],
    detect: Detect | None,
    module: torch.nn.Module,
) -> ExportWrapper:
    """The module as the app calls it, in eval mode, without gradients."""
    levels = {
        index: ToLevels(resolve_levels(output), clips=output.color_layout != "G16")
        for index, output in enumerate(spec.output.values())
        if isinstance(output, ImageOutput)
    }
    softmax = spec.classifier is not None and spec.classifier.softmax
    deployed = ExportWrapper(module, arguments, normalize, levels, softmax=softmax, detect=detect)
    return deployed.eval().requires_grad_(False)


def _as_trained(normalization: Normalization) -> torch.nn.Module:
    if normalization.mean is None or normalization.std is None:
        return Normalize(normalization)
    return NormalizeAsTrained(normalization.mean, normalization.std)


def _output_names(spec: BuildSpec, returned: tuple[str, ...]) -> tuple[str, ...]:
    if spec.output:
        return tuple(spec.output)
    names = ("probabilities", *returned[1:]) if spec.classifier else returned
    names = tuple(f"{name}_output" if name in RESERVED_NAMES else name for name in names)
    taken = [name for name in names if name in spec.artifact_inputs or name in spec.state]
    if taken:
        raise ConfigurationError(
            f"an output of the model is named {taken[0]}, as an input or state is",
            code="B0248",
            hint="name the outputs: `output: {…}`",
            key="input",
        )
    return names


def _check_outputs(spec: BuildSpec, outputs: Mapping[str, torch.Tensor]) -> None:
    """Raise ConfigurationError for an output that cannot be what the recipe makes of it."""
    for name, given in spec.output.items():
        found = outputs[name]
        what = f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
        if isinstance(given, ImageOutput):
            channels = 1 if given.color_layout in ("G", "G16") else 3
            if found.ndim != 4 or tuple(found.shape[:2]) != (1, channels) or not found.is_floating_point():
                raise ConfigurationError(
                    f"a {given.color_layout} image is a float array of shape (1, {channels}, H, W), "
                    f"and output {name} is {what}",
                    code="B0262",
                    key=f"output.{name}",
                )
        elif given.dtype is not None and found.is_floating_point() != given.dtype.startswith("float"):
            fitting = "float32 or float16" if found.is_floating_point() else "int32"
            raise ConfigurationError(
                f"the model returns {what} as {name}, and the recipe says {given.dtype}",
                code="B0262",
                hint=f"write `dtype: {fitting}`, or leave it out: numbers are not converted silently",
                key=f"output.{name}.dtype",
            )


def _flexible_sizes(name: str, given: ImageInput | TensorInput) -> dict[int, FlexibleSize]:
    """By dimension, the sizes that the app may choose; unnamed dimensions are on their own."""
    if given.enumerated_shapes is not None:
        columns = enumerate(zip(*given.enumerated_shapes, strict=True))
        return {
            dimension: FlexibleSize(name=f"{name}_{dimension}", min=min(sizes), max=max(sizes), enumerated=sizes)
            for dimension, sizes in columns
            if len(set(sizes)) > 1
        }
    return {
        dimension: FlexibleSize(name=size.name or f"{name}_{dimension}", min=size.min, max=size.max)
        for dimension, size in enumerate(given.shape)
        if isinstance(size, RangeDimension)
    }


def describe_prepared(prepared: PreparedModel) -> str:
    """One line: what was replaced and added."""
    parts = [f"{len(e.replaced)} {e.name}" for e in prepared.substitutions]
    parts += [f"{e.name}: {len(e.changed)} layer{'s' if len(e.changed) != 1 else ''}" for e in prepared.compression]
    if prepared.normalization:
        parts.append("exact normalisation")
    if prepared.labels is not None:
        parts.append(f"{len(prepared.labels)} labels")
    return ", ".join(parts) or "as it is"
