"""What a source cannot do, found before anything is loaded: by its own settings, and by what a recipe asks of it."""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.functions import specs_by_function
from builder.spec.inputs import ConstantInput, ImageInput, TensorInput, captured_shape, is_flexible
from builder.spec.outputs import FROM_WEIGHTS
from builder.spec.source import CheckpointSource, HuggingFaceSource, TimmSource, TorchvisionSource
from builder.spec.source_kinds import kind_of


def source_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield every problem of the source, and of what the recipe asks of it."""
    source = spec.source
    if isinstance(source, TorchvisionSource) and source.sha256 and not (source.file or source.weights):
        yield Diagnostic(
            code="B0244", path=("source", "sha256"), message="a digest without weights or a file to compare it with"
        )
    if isinstance(source, TimmSource) and source.sha256 and not (source.file or source.pretrained):
        yield Diagnostic(
            code="B0244", path=("source", "sha256"), message="a digest without weights or a file to compare it with"
        )
    if isinstance(source, TimmSource | TorchvisionSource) and not source.file:
        for name in ("state_dict_key", "strip_prefix"):
            if getattr(source, name):
                yield Diagnostic(
                    code="B0244", path=("source", name), message=f"`{name}` is of a `file`, and none is named"
                )
    if isinstance(source, CheckpointSource) and source.factory is None and not source.trust_pickle:
        yield Diagnostic(
            code="B0244",
            path=("source",),
            message="a checkpoint needs `factory` (for a state dict), or `trust_pickle: true` (for a whole module)",
            hint="a whole module is unpickled, which runs code in the file: only for files that you trust",
        )
    if isinstance(source, HuggingFaceSource):
        yield from _hugging_face(source)
        yield from _part(spec, source)
        yield from _cache(spec, source)
    kind = kind_of(source)
    if spec.substitutions and not kind.has_modules:
        yield Diagnostic(
            code="B0254",
            path=("substitutions",),
            message=f"substitutions rewrite the modules of PyTorch models, and a source of kind {source.kind} has none",
            hint="leave them out (`substitutions: {}`), or take the model from where it was exported",
        )
    method = spec.capture.method
    if kind.program is not None and method != "auto":
        yield Diagnostic(
            code="B0244",
            path=("capture", "method"),
            message=f"a source of kind {source.kind} is a program already and is not captured by {method}",
            hint="leave `capture.method` out",
        )
    if kind.is_finished:
        yield from _finished(spec)
    yield from _published(spec)


def _hugging_face(source: HuggingFaceSource) -> Iterator[Diagnostic]:
    if source.folder is not None and source.model is not None:
        yield Diagnostic(code="B0244", path=("source", "model"), message="say one of folder and model")
    if source.folder is None and source.model is None and source.config_class is None:
        yield Diagnostic(
            code="B0244",
            path=("source",),
            message="a source of kind huggingface needs `folder`, `model` or `config_class`",
            hint="`config_class: BertConfig` with `arguments` builds an untrained model",
        )
    if source.revision is not None and source.model is None:
        yield Diagnostic(
            code="B0244", path=("source", "revision"), message="a revision belongs to `model`, which is not given"
        )
    if source.offline == "seeded" and source.config_class is None:
        yield Diagnostic(
            code="B0244",
            path=("source", "offline"),
            message="without a network, untrained weights need a configuration",
            hint="name the `config_class` and its `arguments`",
        )


def _part(spec: BuildSpec, source: HuggingFaceSource) -> Iterator[Diagnostic]:
    """A decoder takes what its encoder gave."""
    if source.part == "decoder" and source.cache_length is None and "encoder_hidden_states" not in spec.artifact_inputs:
        yield Diagnostic(
            code="B0257",
            path=("input",),
            message=f"`part: decoder` takes encoder_hidden_states; this says {', '.join(spec.artifact_inputs)}",
            hint="a tensor of the shape of `last_hidden_state`, the output of the recipe with `part: encoder`",
        )


def _cache(spec: BuildSpec, source: HuggingFaceSource) -> Iterator[Diagnostic]:
    """What a decoder with a cache takes, and that its examples fit into the cache."""
    if source.cache_length is None:
        return
    if source.part == "encoder":
        yield Diagnostic(
            code="B0257", path=("source", "cache_length"), message="an encoder writes no tokens, and keeps none"
        )
        return
    ids, encoded = ("input_ids", []) if source.part is None else ("decoder_input_ids", ["encoder_hidden_states"])
    tokens, position = spec.artifact_inputs.get(ids), spec.artifact_inputs.get("position")
    if set(spec.artifact_inputs) != {ids, "position", *encoded} or not (
        isinstance(tokens, TensorInput) and isinstance(position, TensorInput)
    ):
        yield Diagnostic(
            code="B0257",
            path=("input",),
            message=f"a decoder with a cache takes {', '.join([ids, *encoded])} and position; "
            f"this says {', '.join(spec.artifact_inputs)}",
            hint=f"two tensors of int32: `{ids}` of shape [1, tokens], `position` of shape [1]"
            + "".join(f", and `{name}` as the encoder gives them" for name in encoded),
        )
        return
    for name, given, rank in ((ids, tokens, 2), ("position", position, 1)):
        shape = captured_shape(given)
        if given.dtype != "int32" or len(shape) != rank or shape[0] != 1 or is_flexible(given):
            wanted = "[1, tokens]" if rank == 2 else "[1]"
            yield Diagnostic(
                code="B0257", path=("input", name), message=f"{name} of a decoder is int32 of the fixed shape {wanted}"
            )
            return
    for function, of_function in specs_by_function(spec).items():
        shape = captured_shape(of_function.artifact_inputs[ids])
        last = int(position.high or 1) - 1
        if len(shape) == 2 and last + shape[1] > source.cache_length:
            yield Diagnostic(
                code="B0257",
                path=("input", "position", "high"),
                message=f"{shape[1]} tokens{f' of {function}' if function else ''} from position {last} on do not fit "
                f"into a cache of {source.cache_length}",
                hint=f"write `high: {source.cache_length - shape[1] + 1}`, or make `source.cache_length` longer",
            )


def _finished(spec: BuildSpec) -> Iterator[Diagnostic]:
    """What was decided when an existing Core ML model was made, and cannot be asked for any more."""
    for name, constant in spec.input.items():
        if isinstance(constant, ConstantInput):
            yield Diagnostic(
                code="B0245",
                path=("input", name),
                message="nothing can be baked into an existing Core ML model",
                hint="let the app give it, or build the model from what it was converted from",
            )
    for section, entries in (("input", spec.artifact_inputs), ("output", spec.output)):
        for name, entry in entries.items():
            if entry.source_name not in (None, name):
                yield Diagnostic(
                    code="B0245",
                    path=(section, name, "source_name"),
                    message="an existing Core ML model keeps the names that it has",
                    hint=f"call it {entry.source_name}",
                )
    for name, given in spec.artifact_inputs.items():
        if isinstance(given, ImageInput) and (given.scale != 1 or given.bias not in (None, 0, 0.0)):
            yield Diagnostic(
                code="B0245",
                path=("input", name),
                message="an existing Core ML model normalises its pictures itself",
                hint="write `scale: 1` and nothing else",
            )
    if spec.classifier is not None and spec.classifier.softmax:
        yield Diagnostic(
            code="B0245",
            path=("classifier", "softmax"),
            message="an existing Core ML classifier gives probabilities already",
            hint="write `softmax: false`",
        )


def _published(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Labels and normalisation `from_weights` need a source that publishes them."""
    source = spec.source
    has_labels = spec.classifier is not None and spec.classifier.labels == FROM_WEIGHTS
    if has_labels and not kind_of(source).publishes_labels(source):
        yield Diagnostic(
            code="B0244",
            path=("classifier", "labels"),
            message="labels from the weights need a source with published weights",
            hint="name a text file with one label a line, or list the labels",
        )
    for name, given in spec.artifact_inputs.items():
        wanted = isinstance(given, ImageInput) and given.from_weights
        if wanted and not kind_of(source).publishes_normalization(source):
            yield Diagnostic(
                code="B0244",
                path=("input", name, "from_weights"),
                message="normalisation from the weights needs a source with published weights",
                hint="write mean and std, or scale and bias",
            )
