"""The compress stage: weights of a converted program in fewer bits, step by step, with what was left alone and why."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.stages import CompressedModel, CompressionEffect, ConvertedModel, Preprocessing, Sample
from builder.backends.coreml.compression.activations import ActivationStep, range_of, share_ranges
from builder.backends.coreml.compression.neural_network import compress_network
from builder.backends.coreml.compression.palettize import lookup_table
from builder.backends.coreml.compression.prune import numpy_with_exact_percentiles
from builder.backends.coreml.compression.steps import Step
from builder.backends.coreml.convert import conversion_errors, with_program
from builder.backends.coreml.mlpackage import KeptPackage
from builder.backends.coreml.patches.apply import patched
from builder.backends.coreml.patches.conversion import fast_conversion, validate_program
from builder.backends.ranges import measure_ranges
from builder.data import draw_samples
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.compression import QuantizeActivations

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program
    from coremltools.models import MLModel
    from google.protobuf.message import Message

_NETWORKS = "coremltools.models.neural_network.quantization_utils"
_PASSES = "coremltools.optimize.coreml._quantization_passes"


def compress(
    converted: ConvertedModel, spec: BuildSpec, progress: Progress, *, published: Preprocessing | None = None
) -> CompressedModel:
    """Apply the recipe's compression steps in their order; a later step compresses what an earlier one made.

    `published` is how the weights say that pictures are prepared, for calibration data.
    Raises ConversionError when a step fails, names weights that do not exist, or leaves every weight as it was.
    """
    if not spec.program_compression:
        return CompressedModel(model=converted.model, summary="none")
    steps = _steps(spec, published, progress)
    model, between = converted.model, []
    with fast_conversion() as keep, _quiet_and_repeatable():
        for step in steps:
            if step is not steps[0]:
                between.append(KeptPackage(Path(model.package_path)))
            with conversion_errors(f"compression {step.name} failed"):
                model = _applied(step, model, spec)
            for layer in step.skipped:
                progress.detail(f"compression {layer.step} left {layer.name} as it was: {layer.reason}")
        if spec.format == "mlpackage":
            validate_program(model._mil_program)
        keep(model)
    return CompressedModel(
        model=model,
        effects=tuple(
            CompressionEffect(name=step.name, kind=step.settings.kind, stage="compress", changed=tuple(step.changed))
            for step in steps
        ),
        skipped=tuple(layer for step in steps for layer in step.skipped),
        summary=", ".join(_said(step) for step in steps),
        between=tuple(between),
    )


def _steps(spec: BuildSpec, published: Preprocessing | None, progress: Progress) -> list[Step | ActivationStep]:
    """The recipe's steps, ready to work; calibration data is read here."""
    names: dict[tuple[str, str], str] = {}
    steps: list[Step | ActivationStep] = []
    for name, settings in spec.program_compression.items():
        if isinstance(settings, QuantizeActivations):
            assert not isinstance(settings.data, str), "named data stands in the places that refer to it"
            key = f"compression.{name}.data"
            samples = draw_samples(
                settings.data, spec.artifact_inputs, settings.samples, spec.seed, published=published, key=key
            )
            steps.append(ActivationStep(name=name, settings=settings, samples=samples, progress=progress))
        else:
            generation = spec.target.generation
            steps.append(Step(name=name, settings=settings, generation=generation, names=names, progress=progress))
    return steps


def _said(step: Step | ActivationStep) -> str:
    left = f" ({len(step.skipped)} left as they were)" if step.skipped else ""
    return f"{step.name}: {len(step.changed)} {step.noun}{'s' if len(step.changed) != 1 else ''}{left}"


def _applied(step: Step | ActivationStep, model: MLModel, spec: BuildSpec) -> MLModel:
    """A new model with the step applied to it; `model` stays as it is."""
    if isinstance(step, ActivationStep):
        with step.progress.bar("calibrate", len(step.samples), unit="it") as advance:
            ranges = measure_ranges(_all_values(model), step.samples, advance)

        def quantize(program: Program) -> None:
            share_ranges(ranges, program)
            step.apply(program, ranges)

        return with_program(model, quantize)
    if spec.format == "mlmodel":
        return _compressed_network(step, model)
    return with_program(model, step.apply)


def _all_values(model: MLModel) -> Callable[[Sample], Mapping[str, object]]:
    """What returns every value that `model` computes for a sample, by its name in the program; states go on.

    Pictures are as the program's own variables hold them: levels of 0 to 255.
    """
    import coreml_runtime as runtime

    loaded = runtime.load(model.package_path)
    state = loaded.make_state() if loaded.states else None

    def run(sample: Sample) -> Mapping[str, object]:
        values = loaded.predict(dict(sample.given), state=state, intermediates="all")
        return values | {name: tensor.numpy() for name, tensor in sample.tensors.items()}

    return run


def _compressed_network(step: Step, model: MLModel) -> MLModel:
    from coremltools.models import MLModel
    from coremltools.models.neural_network import quantization_utils

    def unloaded(specification: Message, compute_units: object) -> MLModel:
        return MLModel(specification, compute_units=compute_units, skip_model_load=True)

    with (
        patched(f"{_NETWORKS}:_get_model", lambda _: unloaded),
        patched(f"{_NETWORKS}:_get_kmeans_lookup_table_and_weight", lookup_table),
    ):
        return compress_network(model, step, quantization_utils.quantize_weights)


@contextmanager
def _quiet_and_repeatable() -> Iterator[None]:
    """Our k-means, percentiles and ranges, no bars, and one thread: the sums of k-means of vectors depend on it."""
    from threadpoolctl import threadpool_limits

    with ExitStack() as scoped:
        with contextlib.suppress(ImportError):
            import sklearn.cluster  # noqa: F401 - its thread pools must be loaded to be limited

        scoped.enter_context(threadpool_limits(limits=1))
        scoped.enter_context(patched(f"{_PASSES}:np", lambda _: numpy_with_exact_percentiles()))
        scoped.enter_context(patched("coremltools.optimize._utils:get_min_and_max_values", lambda _: range_of))
        scoped.enter_context(patched(f"{_PASSES}:tqdm", lambda _: lambda iterable, **_: iterable))
        scoped.enter_context(patched(f"{_PASSES}:_get_kmeans_lookup_table_and_weight", lookup_table))
        yield
