"""Every kind of source, with one object that answers what else is asked of it.

To add a kind: its settings in `source.py`, its loader in `builder/model/sources/`, one entry in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.spec.base import Part
from builder.spec.kinds import kind_of_settings, name_of, table, union
from builder.spec.source import (
    CheckpointSource,
    CoreMLSource,
    ExportedProgramSource,
    HuggingFaceSource,
    OnnxSource,
    PythonSource,
    TimmSource,
    TorchScriptSource,
    TorchvisionSource,
)
from builder.util.lazy import resolve


def _never(_: object) -> bool:
    return False


def _nowhere(_: object) -> str | None:
    return None


def _published(source: Any) -> str | None:
    if source.weights is None:
        return None
    found: str = resolve("builder.model.sources.torchvision:address_of_weights")(source.name, source.weights)
    return found


def _of_hub(source: Any) -> str | None:
    revision = f"@{source.revision}" if source.revision else ""
    return None if source.model is None else f"https://huggingface.co/{source.model}{revision}"


def _always(_: object) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """One way in which a model reaches builder."""

    settings: type[Part]
    """What a recipe says of it; its `kind` is the name."""
    load: str
    """`package.module:function`, whose parameters are among `source`, `spec`, `examples` and `progress`."""
    packages: tuple[str, ...] = ()
    """Distributions that only this kind uses, for a lock."""
    program: str | None = None
    """The method of capture of a file that is a program already; None for what is captured from modules."""
    exports: bool = True
    """Whether torch.export can capture it; TorchScript has no modules of torch's."""
    has_modules: bool = True
    """Whether the model has modules that substitutions can rewrite."""
    is_finished: bool = False
    """Whether the file is a Core ML model, whose inputs, outputs and precision are decided."""
    publishes_labels: Callable[[Any], bool] = _never
    """Whether these settings name weights that come with names of classes."""
    publishes_normalization: Callable[[Any], bool] = _never
    """The same for mean and standard deviation of images."""
    address: Callable[[Any], str | None] = _nowhere
    """Where somebody else gets the same weights, of settings that name no file; None where they do not say."""
    has_known_size: bool = False
    """Whether torchvision's tables give the size of the weights by the model's name."""

    @property
    def name(self) -> str:
        """What a recipe writes as `kind`."""
        return name_of(self.settings)


SOURCES = table(
    SourceKind(
        settings=TorchvisionSource,
        load="builder.model.sources.torchvision:load_torchvision",
        publishes_labels=lambda source: source.weights is not None,
        publishes_normalization=lambda source: source.weights is not None,
        address=_published,
        has_known_size=True,
    ),
    SourceKind(settings=CheckpointSource, load="builder.model.sources.checkpoint:load_checkpoint"),
    SourceKind(
        settings=TorchScriptSource,
        load="builder.model.sources.torchscript:load_torchscript",
        exports=False,
        has_modules=False,
    ),
    SourceKind(
        settings=ExportedProgramSource,
        load="builder.model.sources.exported_program:load_exported_program",
        has_modules=False,
    ),
    SourceKind(
        settings=OnnxSource,
        load="builder.model.sources.onnx:load_onnx",
        packages=("onnx", "onnxruntime", "onnxsim"),
        program="onnx",
        has_modules=False,
    ),
    SourceKind(
        settings=TimmSource,
        load="builder.model.sources.timm:load_timm",
        packages=("timm",),
        publishes_labels=lambda source: source.pretrained or source.file is not None,
        publishes_normalization=_always,
    ),
    SourceKind(
        settings=HuggingFaceSource,
        load="builder.model.sources.huggingface:load_huggingface",
        packages=("transformers",),
        publishes_labels=_always,
        publishes_normalization=lambda source: source.folder is not None or source.model is not None,
        address=_of_hub,
    ),
    SourceKind(
        settings=PythonSource,
        load="builder.model.sources.python:load_python",
        address=lambda source: f"python:{source.factory}",
    ),
    SourceKind(
        settings=CoreMLSource,
        load="builder.model.sources.coreml:load_coreml",
        program="coreml",
        has_modules=False,
        is_finished=True,
        publishes_labels=_always,
    ),
)


if TYPE_CHECKING:
    Source = (
        TorchvisionSource
        | CheckpointSource
        | TorchScriptSource
        | ExportedProgramSource
        | OnnxSource
        | TimmSource
        | HuggingFaceSource
        | PythonSource
        | CoreMLSource
    )
else:
    Source = union(SOURCES)


def kind_of(source: Part) -> SourceKind:
    """The kind of these settings."""
    return kind_of_settings(SOURCES, source)


def is_passed_on(source: Part, artifact_format: str) -> bool:
    """Whether a finished file is what is built already: one of another format is taken apart and converted."""
    return kind_of(source).is_finished and Path(getattr(source, "file", "")).suffix == f".{artifact_format}"


def kind_named(name: str) -> SourceKind:
    """The kind that a recipe writes so; raises ValueError for another name."""
    found = next((kind for kind in SOURCES if kind.name == name), None)
    if found is None:
        raise ValueError(f"there is no kind of source {name!r}")
    return found
