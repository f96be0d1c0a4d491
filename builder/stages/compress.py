"""The compress stage: weights of a converted program in fewer bits, step by step, with what was left alone and why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from builder.artifacts import CompressedModel, ConvertedModel
from builder.compression.neural_network import compress_network
from builder.compression.palettize import lookup_table
from builder.compression.prune import numpy_with_exact_percentiles
from builder.compression.steps import Step
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.stages.convert import conversion_errors
from builder.stages.fast_conversion import fast_conversion, replaced, validate_program


def compress(converted: ConvertedModel, spec: BuildSpec, progress: Progress) -> CompressedModel:
    """Apply the recipe's compression steps in their order; a later step compresses what an earlier one made.

    Raises ConversionError when a step fails, names weights that do not exist, or leaves every weight as it was.
    """
    if not spec.compression:
        return CompressedModel(model=converted.model, said="none")
    names: dict[tuple[str, str], str] = {}
    steps = [
        Step(name=name, settings=settings, generation=spec.target.generation, names=names, progress=progress)
        for name, settings in spec.compression.items()
    ]
    model = converted.model
    with fast_conversion() as keep, _quiet_and_repeatable():
        for step in steps:
            with conversion_errors(f"compression {step.name} failed"):
                model = _compressed_network(step, model) if spec.format == "mlmodel" else _applied(step, model)
            for layer in step.skipped:
                progress.detail(f"compression {layer.step} left {layer.name} as it was: {layer.reason}")
        if spec.format == "mlpackage":
            validate_program(model._mil_program)
        keep(model)
    return CompressedModel(
        model=model,
        skipped=tuple(layer for step in steps for layer in step.skipped),
        said=", ".join(_said(step) for step in steps),
    )


def _said(step: Step) -> str:
    left = f" ({len(step.skipped)} left as they were)" if step.skipped else ""
    return f"{step.name}: {len(step.changed)} weight{'s' if len(step.changed) != 1 else ''}{left}"


def _applied(step: Step, model: Any) -> Any:
    """A new model with the step applied to its program; `model` stays as it is."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.models.utils import _apply_graph_pass

    class Apply(AbstractGraphPass):  # type: ignore[misc] # coremltools is untyped
        def apply(self, prog: Any) -> None:
            step.apply(prog)

    return _apply_graph_pass(model, Apply())


def _compressed_network(step: Step, model: Any) -> Any:
    from coremltools.models import MLModel
    from coremltools.models.neural_network import quantization_utils

    def unloaded(specification: Any, compute_units: Any) -> Any:
        return MLModel(specification, compute_units=compute_units, skip_model_load=True)

    table = lookup_table(quantization_utils._get_kmeans_lookup_table_and_weight)
    with (
        replaced(quantization_utils, "_get_model", unloaded),
        replaced(quantization_utils, "_get_kmeans_lookup_table_and_weight", table),
    ):
        return compress_network(model, step, quantization_utils.quantize_weights)


@contextmanager
def _quiet_and_repeatable() -> Iterator[None]:
    """Our k-means and percentiles, no progress bars, and one thread: the sums of k-means of vectors depend on it."""
    from coremltools.optimize.coreml import _quantization_passes as passes
    from threadpoolctl import threadpool_limits

    table = lookup_table(passes._get_kmeans_lookup_table_and_weight)
    with ExitStack() as scoped:
        with contextlib.suppress(ImportError):
            import sklearn.cluster  # noqa: F401 - its thread pools must be loaded to be limited

        scoped.enter_context(threadpool_limits(limits=1))
        scoped.enter_context(replaced(passes, "np", numpy_with_exact_percentiles()))
        scoped.enter_context(replaced(passes, "tqdm", lambda iterable, **_: iterable))
        scoped.enter_context(replaced(passes, "_get_kmeans_lookup_table_and_weight", table))
        yield
