"""The prepare stage: substitutions, normalisation, named outputs, softmax; what is captured, and its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from builder.artifacts import ExampleInputs, LoadedModel, PreparedModel
from builder.calling import call_model
from builder.errors import ConfigurationError, ConversionError, SourceError
from builder.normalization import Normalization, resolve_normalization
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput
from builder.spec.outputs import FROM_WEIGHTS, Classifier
from builder.stages.flatten import flatten_outputs
from builder.substitutions import substitute
from builder.substitutions.rewrite import copy_module


class Normalize(torch.nn.Module):
    """`scale * x + bias` for each channel of levels (N, C, H, W); a scale of 1 or a bias of 0 costs nothing."""

    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        self.register_buffer("scale", torch.tensor(normalization.scale, dtype=torch.float32).view(shape))
        self.register_buffer("bias", torch.tensor(normalization.bias, dtype=torch.float32).view(shape))
        self._scales = any(s != 1.0 for s in normalization.scale)
        self._adds = any(b != 0.0 for b in normalization.bias)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Levels of 0 to 255, float32, to what the model was trained on."""
        if self._scales:
            levels = levels * self.scale
        return levels + self.bias if self._adds else levels


class NormalizeAsTrained(torch.nn.Module):
    """`(x/255 - mean) / std`, the formula of torchvision's Normalize, for levels x of (N, C, H, W)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(shape))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(shape))

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Levels of 0 to 255, float32, to what the model was trained on."""
        return (levels / 255 - self.mean) / self.std


class Deployed(torch.nn.Module):
    """The model as the app calls it: raw inputs in order, a tuple with one tensor for each output."""

    def __init__(
        self, model: torch.nn.Module, names: Sequence[str], normalize: Mapping[int, torch.nn.Module], *, softmax: bool
    ) -> None:
        super().__init__()
        self.model = model
        self._names = tuple(names)
        self.normalize = torch.nn.ModuleDict({str(i): module for i, module in normalize.items()})
        self._softmax = softmax

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalise the image inputs, run the model, flatten what it returns."""
        outputs = tuple(flatten_outputs(self.returned(*inputs)).values())
        if self._softmax:
            return (torch.softmax(outputs[0], dim=-1), *outputs[1:])
        return outputs

    def returned(self, *inputs: torch.Tensor) -> Any:
        """What the model itself returns for raw inputs."""
        normalized = [self.normalize[str(i)](x) if str(i) in self.normalize else x for i, x in enumerate(inputs)]
        return call_model(self.model, self._names, normalized)


def prepare(loaded: LoadedModel, examples: ExampleInputs, spec: BuildSpec) -> PreparedModel:
    """Make the module that is captured, in eval mode; `loaded` stays as it is.

    Raises ConversionError when a substitution fails, ConfigurationError when names or labels do not fit the model.
    """
    normalizations = {
        index: resolve_normalization(name, given, loaded.preprocessing)
        for index, (name, given) in enumerate(spec.input.items())
        if isinstance(given, ImageInput)
    }
    softmax = spec.classifier is not None and spec.classifier.softmax

    def deploy(module: torch.nn.Module) -> Deployed:
        normalize = {index: Normalize(n) for index, n in normalizations.items()}
        return Deployed(module, tuple(spec.input), normalize, softmax=softmax).eval().requires_grad_(False)

    def run(module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
        deployed = deploy(module)
        with torch.no_grad():
            results = [deployed(*sample.tensors.values()) for sample in examples.samples]
        return tuple(torch.stack(outputs) for outputs in zip(*results, strict=True))

    original = copy_module(loaded.module).eval()
    as_trained = {index: _as_trained(n) for index, n in normalizations.items()}
    reference = Deployed(original, tuple(spec.input), as_trained, softmax=softmax).eval().requires_grad_(False)
    outputs = _try_out(reference, examples)
    names = _output_names(spec, tuple(outputs))
    labels = _labels(spec.classifier, loaded, next(iter(outputs.values()))) if spec.classifier else None
    substituted, effects = substitute(original, spec.substitutions, run)
    return PreparedModel(
        module=deploy(substituted.eval()),
        reference=reference,
        output_names=names,
        labels=labels,
        substitutions=effects,
        normalization={
            name: {"scale": normalizations[i].scale, "bias": normalizations[i].bias}
            for i, name in enumerate(spec.input)
            if i in normalizations
        },
    )


def _as_trained(normalization: Normalization) -> torch.nn.Module:
    if normalization.mean is None or normalization.std is None:
        return Normalize(normalization)
    return NormalizeAsTrained(normalization.mean, normalization.std)


def _try_out(reference: Deployed, examples: ExampleInputs) -> dict[str, torch.Tensor]:
    """Run the model once; return its outputs, before any softmax, by the names that it gives them itself."""
    tensors = list(examples.samples[0].tensors.values())
    try:
        with torch.no_grad():
            outputs = flatten_outputs(reference.returned(*tensors))
    except ConversionError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ConversionError(
            f"the model does not run on inputs of shape {shapes}: {type(error).__name__}: {error}",
            hint="compare shape, dtype and number of inputs with what the model's forward takes",
            key="input",
        ) from error
    for name, output in outputs.items():
        if sum(output is other for other in outputs.values()) > 1:
            raise ConversionError(f"the model returns one tensor twice (output {name})", key="output")
    return outputs


def _output_names(spec: BuildSpec, returned: tuple[str, ...]) -> tuple[str, ...]:
    if not spec.output:
        return ("probabilities", *returned[1:]) if spec.classifier else returned
    if len(spec.output) != len(returned):
        raise ConfigurationError(
            f"the model returns {len(returned)} output(s) ({', '.join(returned)}), "
            f"and the recipe names {len(spec.output)}",
            hint="name every output, in the order in which the model returns them",
            key="output",
        )
    return tuple(spec.output)


def _labels(classifier: Classifier, loaded: LoadedModel, scores: torch.Tensor) -> tuple[str, ...]:
    if scores.ndim != 2:
        raise ConfigurationError(
            f"a classifier's first output has shape (1, classes), and this model's has {tuple(scores.shape)}",
            key="classifier",
        )
    labels, where = _read_labels(classifier, loaded)
    if len(labels) != scores.shape[-1]:
        raise ConfigurationError(
            f"{len(labels)} labels{where} for {scores.shape[-1]} classes of the model", key="classifier.labels"
        )
    doubled = sorted({label for label in labels if labels.count(label) > 1})
    if doubled:
        return tuple(_numbered(labels))
    return labels


def _numbered(labels: tuple[str, ...]) -> list[str]:
    """Core ML needs distinct labels; ImageNet has two cranes and two maillots: the later ones get their index."""
    seen: set[str] = set()
    result = []
    for index, label in enumerate(labels):
        result.append(f"{label} ({index})" if label in seen else label)
        seen.add(label)
    return result


def _read_labels(classifier: Classifier, loaded: LoadedModel) -> tuple[tuple[str, ...], str]:
    given: Any = classifier.labels
    if isinstance(given, list):
        return tuple(given), ""
    if given == FROM_WEIGHTS:
        if loaded.labels is None:
            raise ConfigurationError("the weights publish no labels", key="classifier.labels")
        return loaded.labels, " from the weights"
    try:
        lines = Path(given).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the labels cannot be read: {error}", key="classifier.labels") from error
    return tuple(line.strip() for line in lines if line.strip()), f" in {given}"


def describe_prepared(prepared: PreparedModel) -> str:
    """One line: what was replaced and added."""
    said = [f"{len(e.replaced)} {e.name}" for e in prepared.substitutions]
    if prepared.normalization:
        said.append("exact normalisation")
    if prepared.labels is not None:
        said.append(f"{len(prepared.labels)} labels")
    return ", ".join(said) or "as it is"
