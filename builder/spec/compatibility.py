"""What cannot go together, found before anything is loaded: format, target, precision, compression, inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.spec import SCHEMA_VERSION, BuildSpec
from builder.spec.compression import Compression, LinearQuantize, Palettize
from builder.spec.inputs import ImageInput, TensorInput, is_flexible
from builder.spec.outputs import FROM_WEIGHTS
from builder.spec.source import CheckpointSource, TorchvisionSource
from builder.spec.substitutions import FIXED_SIZE
from builder.spec.target import last_neural_network_target, same_system_name

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with one setting: `path` leads to it from the root of the BuildSpec."""

    path: Path
    message: str
    hint: str | None = None


def find_incompatibilities(spec: BuildSpec) -> list[Problem]:
    """Return every combination of settings in `spec` that cannot work, each with the change that would help."""
    return [
        *_schema(spec),
        *_format(spec),
        *_precision(spec),
        *_compression(spec),
        *_inputs(spec),
        *_substitutions(spec),
        *_outputs(spec),
        *_source(spec),
        *_checks(spec),
    ]


def _schema(spec: BuildSpec) -> Iterator[Problem]:
    if spec.schema_version != SCHEMA_VERSION:
        yield Problem(
            path=("schema",),
            message=f"this builder reads recipes of schema {SCHEMA_VERSION}, and this one says {spec.schema_version}",
            hint=f"write `schema: {SCHEMA_VERSION}`, or use the version of builder that the recipe was written for",
        )


def _needs(spec: BuildSpec, path: Path, what: str, generation: int) -> Iterator[Problem]:
    """Yield a problem when `what` came with a later generation than the target's."""
    if spec.target.generation < generation:
        least = same_system_name(spec.target, generation)
        yield Problem(
            path=path,
            message=f"{what} needs {least} or later, and the target is {spec.target.name}",
            hint=f"write `target: {least}` in the defaults list, or `target={least}` on the command line",
        )


def _format(spec: BuildSpec) -> Iterator[Problem]:
    if spec.format == "mlpackage":
        yield from _needs(spec, ("format",), "format mlpackage (an ML program)", 15)
    elif spec.target.generation > 14:
        newest = last_neural_network_target(spec.target)
        yield Problem(
            path=("format",),
            message=f"format mlmodel (a neural network) ends with {newest}, and the target is {spec.target.name}",
            hint=f"write `format: mlpackage`, or `target: {newest}`: later systems run it as well",
        )


def _precision(spec: BuildSpec) -> Iterator[Problem]:
    kind = spec.precision.kind
    if spec.format == "mlmodel" and kind == "mixed":
        yield Problem(
            path=("precision",),
            message="a neural network (format mlmodel) has one precision; mixed needs an ML program",
            hint="write `format: mlpackage` with target ios15 or later, or `precision: fp16`",
        )


def _compression(spec: BuildSpec) -> Iterator[Problem]:
    for name, step in spec.compression.items():
        path = ("compression", name)
        if spec.format == "mlmodel":
            yield Problem(
                path=path,
                message="weight compression is built for ML programs, and the format is mlmodel",
                hint="write `format: mlpackage` with target ios16 or later",
            )
            continue
        yield from _needs(spec, path, f"compression {name}", _compression_generation(step))


def _compression_generation(step: Compression) -> int:
    if isinstance(step, LinearQuantize):
        return 18 if step.dtype in ("int4", "uint4") or step.granularity == "per_block" else 16
    if isinstance(step, Palettize):
        return 18 if step.granularity != "per_tensor" or step.nbits == 3 else 16
    return 16


def _inputs(spec: BuildSpec) -> Iterator[Problem]:
    for name, given in spec.input.items():
        path = ("input", name)
        if isinstance(given, ImageInput):
            yield from _image(spec, path, given)
        else:
            yield from _tensor(spec, path, given)


def _substitutions(spec: BuildSpec) -> Iterator[Problem]:
    flexible = [name for name, given in spec.input.items() if is_flexible(given)]
    for name, substitution in spec.substitutions.items():
        if substitution.kind in FIXED_SIZE and flexible:
            yield Problem(
                path=("substitutions", name),
                message=f"{substitution.kind} fixes sizes, and input {flexible[0]} has a flexible shape",
                hint="give the input one shape, or leave the substitution out",
            )


def _image(spec: BuildSpec, path: Path, given: ImageInput) -> Iterator[Problem]:
    channels = 1 if given.color_layout in ("G", "G16") else 3
    if given.shape[:2] != [1, channels]:
        yield Problem(
            path=(*path, "shape"),
            message=f"a {given.color_layout} image has shape [1, {channels}, H, W], and this says {given.shape}",
        )
    ways = {
        "from_weights": given.from_weights,
        "mean and std": given.mean is not None or given.std is not None,
        "scale and bias": given.scale is not None or given.bias is not None,
    }
    chosen = [way for way, given_ in ways.items() if given_]
    if len(chosen) != 1:
        said = " and ".join(chosen) if chosen else "none"
        yield Problem(
            path=path,
            message=f"say one of from_weights, mean and std, or scale and bias; this says {said}",
            hint="`scale: 1` passes levels of 0 to 255 on; null or false takes back what a group option set",
        )
    if (given.mean is None) != (given.std is None):
        yield Problem(path=path, message="mean and std belong together, and one of them is missing")
    if given.bias is not None and given.scale is None:
        yield Problem(path=(*path, "bias"), message="bias needs a scale", hint="write `scale: 1` to add bias only")
    for key in ("mean", "std", "scale", "bias"):
        value = getattr(given, key)
        if isinstance(value, list) and len(value) != channels:
            yield Problem(
                path=(*path, key),
                message=f"{len(value)} values for {channels} channels of a {given.color_layout} image",
            )
    std = given.std if isinstance(given.std, list) else [given.std]
    if any(s is not None and s <= 0 for s in std):
        yield Problem(path=(*path, "std"), message="a standard deviation is greater than 0")
    if given.color_layout == "G16":
        yield from _needs(spec, (*path, "color_layout"), "a grayscale image in half precision (G16)", 16)


def _tensor(spec: BuildSpec, path: Path, given: TensorInput) -> Iterator[Problem]:
    if given.dtype == "float16":
        yield from _needs(spec, (*path, "dtype"), "a float16 input", 16)
    if given.dtype == "int32" and given.high is None:
        yield Problem(
            path=path,
            message="an int32 input needs `high`: its examples are drawn from low (0) to below high",
            hint="for token ids, write the size of the vocabulary",
        )
    if given.low is not None and given.high is not None and given.low >= given.high:
        yield Problem(path=(*path, "low"), message=f"low ({given.low}) is not less than high ({given.high})")
    if given.enumerated_shapes is not None:
        if list(given.shape) not in given.enumerated_shapes:
            yield Problem(
                path=(*path, "enumerated_shapes"),
                message=f"the enumerated shapes do not include the shape {given.shape} itself",
            )
        many = [n for n, i in spec.input.items() if isinstance(i, TensorInput) and i.enumerated_shapes]
        if len(many) > 1 and path[1] == many[0]:
            yield from _needs(spec, (*path, "enumerated_shapes"), "more than one input with enumerated shapes", 18)


def _outputs(spec: BuildSpec) -> Iterator[Problem]:
    for name, output in spec.output.items():
        if output.dtype == "float16":
            yield from _needs(spec, ("output", name, "dtype"), "a float16 output", 16)
        if name in spec.input:
            yield Problem(path=("output", name), message=f"an input is named {name} already")
    flexible = [n for n, i in spec.input.items() if is_flexible(i)]
    if spec.classifier is not None:
        name = spec.classifier.predicted_feature_name
        if name in spec.input or name in spec.output:
            yield Problem(
                path=("classifier", "predicted_feature_name"),
                message=f"an input or output is named {name} already",
            )
        if flexible and spec.format == "mlmodel":
            yield Problem(path=("input", flexible[0], "shape"), message="a classifier in mlmodel has fixed shapes")


def _source(spec: BuildSpec) -> Iterator[Problem]:
    source = spec.source
    if isinstance(source, TorchvisionSource) and source.sha256 and not (source.file or source.weights):
        yield Problem(path=("source", "sha256"), message="a digest without weights or a file to compare it with")
    if isinstance(source, CheckpointSource) and source.factory is None and not source.trust_pickle:
        yield Problem(
            path=("source",),
            message="a checkpoint needs `factory` (for a state dict), or `trust_pickle: true` (for a whole module)",
            hint="a whole module is unpickled, which runs code in the file: only for files that you trust",
        )
    has_labels = spec.classifier is not None and spec.classifier.labels == FROM_WEIGHTS
    if has_labels and not (isinstance(source, TorchvisionSource) and source.weights):
        yield Problem(
            path=("classifier", "labels"),
            message="labels from the weights need a source with published weights",
            hint="name a text file with one label a line, or list the labels",
        )
    for name, given in spec.input.items():
        wanted = isinstance(given, ImageInput) and given.from_weights
        if wanted and not (isinstance(source, TorchvisionSource) and source.weights):
            yield Problem(
                path=("input", name, "from_weights"),
                message="normalisation from the weights needs a source with published weights",
                hint="write mean and std, or scale and bias",
            )


def _checks(spec: BuildSpec) -> Iterator[Problem]:
    for name, check in spec.checks.items():
        if check.kind == "accuracy" and spec.classifier is None:
            yield Problem(path=("checks", name), message="accuracy needs a classifier, and the recipe has none")
