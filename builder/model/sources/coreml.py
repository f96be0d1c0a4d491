"""An existing Core ML model, run by our runtime: the original that its smaller or re-targeted self is compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image

from builder.artifacts.stages import LoadedModel
from builder.errors import ConversionError, SourceError
from builder.model.sources.download import check_digest, file_digest
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput, RangeDimension, TensorInput, border_sizes, captured_shape
from builder.spec.source import CoreMLSource
from builder.util.bounded import bounded
from builder.util.suggest import did_you_mean
from coreml_runtime.forms import Form

if TYPE_CHECKING:
    from coreml_runtime.model import Model

_COLORS = {"RGB": "RGB", "BGR": "BGR", "G": "GRAYSCALE", "G16": "GRAYSCALE_FLOAT16"}
_SINGLE = {"fp64": "fp32"}
"""Neural networks declare arrays in double precision, as coremltools writes them, and compute in single."""
_DTYPES = {"float32": "fp32", "float16": "fp16", "int32": "int32"}


class CoreMLModule(torch.nn.Module):
    """A Core ML file as a module: takes tensors in the recipe's order, returns a dictionary of its output arrays."""

    content: torch.Tensor

    def __init__(
        self, path: Path, model: Model, given: dict[str, ImageInput | TensorInput], labels: Sequence[str] | None
    ) -> None:
        super().__init__()
        self.path = path
        self.specification = model.specification
        self._model, self._given, self._labels = model, given, labels
        self._taken: Sequence[Any] | None = None
        for name, feature in model.states.items():
            self.register_buffer(name, torch.zeros(feature.shape))
        self._map_content()

    def _map_content(self) -> None:
        """What it weighs, for the report: the bytes of its largest file, mapped and never read."""
        largest = max(_files(self.path), key=lambda file: file.stat().st_size)
        size = largest.stat().st_size
        self.register_buffer("content", torch.from_file(str(largest), shared=False, size=size, dtype=torch.uint8))

    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the file: pictures are levels of 0 to 255 (1, C, H, W), as everywhere."""
        if self._taken is not None:
            return self._operators(dict(zip(self._given, inputs, strict=True)), self._taken)
        prepared = {
            name: _picture(x, given.color_layout) if isinstance(given, ImageInput) else x.numpy()
            for (name, given), x in zip(self._given.items(), inputs, strict=True)
        }
        with bounded("the Core ML model"):
            predicted = self._predicted(prepared)
        return {
            name: output_tensor(value, self._labels) for name, value in predicted.items() if not isinstance(value, str)
        }

    def _predicted(self, given: Mapping[str, object]) -> dict[str, object]:
        """What the file answers; its states are the module's buffers."""
        if not self._model.states:
            found: dict[str, object] = self._model.predict(given)
            return found
        state = self._model.make_state()
        for name, tensor in state.tensors.items():
            tensor.copy_(self.get_buffer(name))
        found = self._model.predict(given, state=state)
        for name, tensor in state.tensors.items():
            self.get_buffer(name).copy_(tensor)
        return found

    def _operators(self, inputs: dict[str, torch.Tensor], taken: Sequence[Any]) -> dict[str, torch.Tensor]:
        """The outputs by the operators of the file, as torch has them."""
        network = self.get_submodule("network")
        found: dict[str, torch.Tensor] = network(*(inputs[each.name].to(each.dtype) for each in taken))
        return found

    def expose(self) -> None:
        """Compute by the operators of the file from now on, so that they can be captured.

        Raises ConversionError naming those that have no counterpart in torch.
        """
        from coreml_runtime import UnsupportedError
        from coreml_runtime.export import export

        try:
            exported = export(self.path, precision="fast")
        except UnsupportedError as error:
            raise ConversionError(
                f"{self.path.name} cannot become another format: {error}", code="B0417", key="source.file"
            ) from error
        if exported.needs.draws:
            raise ConversionError(
                f"{self.path.name} draws random numbers ({', '.join(exported.needs.draws)}), so nothing that is built "
                "of it could be compared with it",
                code="B0418",
                hint="`python -m builder export --to pt2` writes it as a program of torch, which draws likewise",
                key="source.file",
            )
        del self.content
        self.network = exported.program.module(check_guards=False)
        for name, path in exported.states.items():
            self._share(name, path)
        self._taken = exported.inputs

    def _share(self, name: str, path: str) -> None:
        """Let the operators read and write this module's buffer: one that two modules have cannot be captured."""
        network = self.network
        delattr(network, path)
        setattr(type(network), path, property(lambda _: self.get_buffer(name)))  # a GraphModule has a class of its own

    def forms(self) -> Mapping[str, Form]:
        """How the file stores its compressed weights; the names say no more than their order."""
        from coreml_runtime.export.stages import open_stages

        return {f"weight_{number}": form for number, form in enumerate(open_stages(self.path, None, "fast").forms)}

    def hide(self) -> None:
        """Run the file again."""
        del self.network
        self._taken = None
        self._map_content()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # nothing changes it: a finished model has no modules to rewrite


def output_tensor(value: Any, labels: Sequence[str] | None) -> torch.Tensor:
    """An array as it is, probabilities by label in the file's order, a picture as levels (1, C, H, W)."""
    if isinstance(value, dict):
        return torch.tensor([[float(value[label]) for label in labels or value]])
    if isinstance(value, Image.Image):
        levels = np.array(value.convert("RGB") if value.mode == "RGBA" else value, dtype=np.float32)
        return torch.from_numpy(np.atleast_3d(levels).transpose(2, 0, 1).copy())[None]
    return torch.as_tensor(value)


def file_forms(module: torch.nn.Module) -> dict[str, Form]:
    """How finished Core ML models inside of a module store their compressed weights."""
    found = [each for each in module.modules() if isinstance(each, CoreMLModule)]
    return {name: form for each in found for name, form in each.forms().items()}


@contextmanager
def exposed(module: torch.nn.Module) -> Iterator[None]:
    """Let finished Core ML models inside of a module compute by their operators, for a capture."""
    found = [each for each in module.modules() if isinstance(each, CoreMLModule)]
    for each in found:
        each.expose()
    try:
        yield
    finally:
        for each in found:
            each.hide()


def has_file(module: torch.nn.Module) -> bool:
    """Whether a finished Core ML model is inside of a module."""
    return any(isinstance(each, CoreMLModule) for each in module.modules())


@contextmanager
def unrounded(module: torch.nn.Module) -> Iterator[None]:
    """Let finished Core ML models inside of a module compute in float32, as their operators do in a capture."""
    from builder import runtime

    found = [each for each in module.modules() if isinstance(each, CoreMLModule)]
    usual = [each._model for each in found]
    for each in found:
        each._model = runtime.load(each.path, precision="fast")
    try:
        yield
    finally:
        for each, model in zip(found, usual, strict=True):
            each._model = model


def load_coreml(source: CoreMLSource, spec: BuildSpec) -> LoadedModel:
    """Load the file; raises SourceError when it is damaged, cannot be executed, or its inputs are not the recipe's."""
    import coreml_runtime as runtime
    from coreml_runtime.labels import labels_of

    path = Path(source.file)
    digest = path_digest(path)
    check_digest(path, digest, source.sha256)
    try:
        model = runtime.load(path)
        labels = labels_of(model.specification)
    except runtime.RuntimeFailure as error:
        raise SourceError(
            f"{path} cannot be executed: {error}",
            code="B0318",
            hint="what cannot be executed cannot be compared with what it becomes",
            key="source.file",
        ) from error
    except Exception as error:  # protobuf and coremltools' reader raise types of their own on damaged files
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(
            f"{path} is damaged, or no Core ML model: {message}", code="B0302", hint="copy it again", key="source.file"
        ) from error
    _check_states(path, model, spec)
    _check_inputs(path, model, spec)
    return LoadedModel(
        module=CoreMLModule(path, model, dict(spec.artifact_inputs), labels).eval(),
        digest=f"sha256:{digest}",
        origin={"kind": "coreml", "file": path.name, "file_sha256": digest, "format": model.kind},
        labels=labels,
        is_finished=True,
    )


def _check_states(path: Path, model: Model, spec: BuildSpec) -> None:
    """Raise SourceError unless the recipe has the states of the file, each as the buffer of its name."""
    declared = {name: state.buffer for name, state in spec.state.items()}
    if declared != {name: name for name in model.states}:
        written = ", ".join(f"{name}: {{buffer: {name}}}" for name in model.states)
        raise SourceError(
            f"{path} keeps the states {', '.join(model.states) or 'none'}, and the recipe has "
            f"{', '.join(declared) or 'none'}",
            code="B0318",
            hint=f"write `state: {{{written}}}`" if model.states else "take out `state`",
            key="state" if spec.state else "source.file",
        )


def path_digest(path: Path) -> str:
    """SHA-256 of a file; of a package, over the sorted names and digests of its files (as in `build.json`)."""
    if not path.is_dir():
        return file_digest(path)
    lines = [f"{file_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file()]
    if not files:
        raise SourceError(f"{path} is an empty folder", code="B0303", key="source.file")
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def _picture(levels: torch.Tensor, color_layout: str) -> Image.Image:
    """The picture that the app would give for levels of 0 to 255 (1, C, H, W) in the model's order of channels."""
    channels = levels[0].flip(0) if color_layout == "BGR" else levels[0]
    if color_layout == "G16":
        return Image.fromarray(channels[0].numpy().astype(np.float32))
    array = channels.round().clamp(0, 255).to(torch.uint8).numpy()
    return Image.fromarray(array[0] if color_layout == "G" else np.ascontiguousarray(array.transpose(1, 2, 0)))


def _check_sizes(
    path: Path,
    name: str,
    given: ImageInput | TensorInput,
    default: Sequence[int],
    ranges: Sequence[tuple[int, int | None]],
    enumerated: Sequence[Sequence[int]],
) -> None:
    """Raise SourceError unless the recipe has the flexible sizes of the file, since the artifact will have them."""
    if enumerated:
        wanted = sorted(list(shape) for shape in enumerated)
        if sorted(given.enumerated_shapes or ()) != wanted:
            raise SourceError(
                f"{path} takes {name} in {len(wanted)} shapes, and the recipe says others",
                code="B0316",
                hint=f"write `enumerated_shapes: {wanted}`",
                key=f"input.{name}",
            )
    elif ranges:
        declared = [(d.min, d.max) if isinstance(d, RangeDimension) else (d, d) for d in border_sizes(given)]
        pairs = list(zip(ranges, declared, strict=True))
        differs = any(low != own_low or high not in (own_high, None) for (low, high), (own_low, own_high) in pairs)
        if differs or list(captured_shape(given)) != list(default):
            sizes = [dimension(low, high, size) for (low, high), size in zip(ranges, default, strict=True)]
            raise SourceError(
                f"{path} takes {name} in a range of sizes, as the artifact will, and the recipe says others",
                code="B0316",
                hint=f"write `shape: {sizes}`".replace("'", ""),
                key=f"input.{name}.shape",
            )


def _check_inputs(path: Path, model: Model, spec: BuildSpec) -> None:
    from coreml_runtime.features import ArrayFeature, ImageFeature

    for name, given in spec.artifact_inputs.items():
        own = model.inputs.get(name)
        key = f"input.{name}"
        if own is None:
            raise SourceError(
                f"{path} has no input {name}; it has {', '.join(model.inputs)}",
                code="B0315",
                hint=did_you_mean(name, model.inputs),
                key=key,
            )
        shape = captured_shape(given)
        if isinstance(own, ImageFeature) != isinstance(given, ImageInput):
            what = "a picture" if isinstance(own, ImageFeature) else "an array"
            kind = "image" if isinstance(own, ImageFeature) else "tensor"
            raise SourceError(
                f"{path} takes {name} as {what}", code="B0316", hint=f"write `kind: {kind}`", key=f"{key}.kind"
            )
        if isinstance(own, ImageFeature) and isinstance(given, ImageInput):
            if own.color != _COLORS[given.color_layout]:
                layout = next(layout for layout, color in _COLORS.items() if color == own.color)
                raise SourceError(
                    f"{path} takes {name} in {layout}, not {given.color_layout}",
                    code="B0316",
                    key=f"{key}.color_layout",
                )
            if not own.allows(shape[3], shape[2]):
                raise SourceError(
                    f"{path} takes {name} of {own.width} x {own.height}, and the recipe says {shape[3]} x {shape[2]}",
                    code="B0316",
                    hint="sizes of pictures are written as [1, channels, height, width]",
                    key=f"{key}.shape",
                )
            sides = (own.height_range, own.width_range)
            fixed = [(size, size) for size in shape[:2]]
            default = (*shape[:2], own.height, own.width)
            ranges = [*fixed, *(side for side in sides if side is not None)] if all(sides) else ()
            _check_sizes(
                path, name, given, default, ranges, [(*shape[:2], high, wide) for wide, high in own.enumerated]
            )
        elif isinstance(own, ArrayFeature) and isinstance(given, TensorInput):
            if not own.allows(shape):
                raise SourceError(
                    f"{path} takes {name} of shape {own.expected()}, and the recipe gives {shape}",
                    code="B0316",
                    key=f"{key}.shape",
                )
            _check_sizes(path, name, given, own.shape, own.ranges, own.enumerated)
            if _SINGLE.get(own.dtype, own.dtype) != _DTYPES[given.dtype]:
                dtype = next((message for message, theirs in _DTYPES.items() if theirs == own.dtype), own.dtype)
                raise SourceError(
                    f"{path} takes {name} as {dtype}, not {given.dtype}", code="B0316", key=f"{key}.dtype"
                )
    left = [name for name, feature in model.inputs.items() if name not in spec.artifact_inputs and not feature.optional]
    if left:
        raise SourceError(
            f"{path} takes an input {left[0]} too, which the recipe does not give", code="B0315", key="input"
        )


UNBOUNDED = 1024
"""The largest size that a draft gives a dimension for which the file has no bound."""


def dimension(low: int, high: int | None, default: int) -> int | dict[str, int]:
    """One size of an input of a file, as a recipe writes it."""
    if low == high:
        return low
    return {"min": low, "max": max(UNBOUNDED, default) if high is None else high, "default": default}
