"""What the compression of PyTorch models works with: samples as the model itself takes them, normalised as declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from builder.artifacts.stages import ExampleInputs, Preprocessing, Sample
from builder.backends.coreml.module_compression.context import Context
from builder.data import draw_samples
from builder.model.calling import Arguments, call_model, parameter_names
from builder.model.flatten import flatten_outputs
from builder.spec import BuildSpec


def module_context(
    name: str,
    spec: BuildSpec,
    normalize: Mapping[int, torch.nn.Module],
    examples: ExampleInputs,
    published: Preprocessing | None,
) -> Context:
    """The context of the step `name`; `normalize` is by the number of an input, `published` what the weights say."""
    key = f"compression.{name}"

    taken = Arguments(spec.input)

    def inputs(sample: Sample) -> list[Any]:
        with torch.no_grad():
            return taken.of([normalize[i](x) if i in normalize else x for i, x in enumerate(sample.tensors.values())])

    def call(module: torch.nn.Module, sample: Sample) -> tuple[torch.Tensor, ...]:
        return tuple(flatten_outputs(call_model(module, taken.names, inputs(sample))).values())

    def arguments(module: torch.nn.Module, sample: Sample) -> tuple[Any, ...]:
        given = dict(zip(taken.names, inputs(sample), strict=True))
        names = parameter_names(module)
        return tuple(given[n] for n in names if n in given) if set(given) <= set(names) else tuple(given.values())

    return Context(
        key=key,
        draw=lambda data, count: draw_samples(
            data, spec.artifact_inputs, count, spec.seed, published=published, key=f"{key}.data"
        ),
        call=call,
        arguments=arguments,
        example=examples.samples[0],
        is_classifier=spec.classifier is not None,
        seed=spec.seed,
    )
