"""The address of a model: where somebody else gets the same weights."""

from __future__ import annotations

from typing import Any

from builder.spec import BuildSpec


def address_of(spec: BuildSpec) -> str:
    """A URL, the name of a published model, the name of a local file, or the factory that makes the model."""
    source: Any = spec.source
    kind = source.kind
    local = getattr(source, "file", None) or getattr(source, "folder", None)
    if local is not None:
        return f"file:{local.rpartition('/')[2]}"
    if kind == "torchvision" and source.weights is not None:
        from builder.model.torchvision_import import import_torchvision

        weights = import_torchvision().models.get_model_weights(source.name)
        return str(weights[source.weights.rpartition(".")[2]].url)
    if kind == "huggingface" and source.model is not None:
        revision = f"@{source.revision}" if source.revision else ""
        return f"https://huggingface.co/{source.model}{revision}"
    if kind == "python":
        return f"python:{source.factory}"
    return f"{kind}:{getattr(source, 'name', '') or getattr(source, 'config_class', '')}"
