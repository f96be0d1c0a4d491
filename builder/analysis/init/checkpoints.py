"""Checkpoints: the model that a file names or whose tensors it has, or what only its owner can say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from builder.analysis.init.draft import Draft
from builder.analysis.init.modules import LEVELS, picture
from builder.analysis.init.named import CLASSIFIER
from builder.errors import SourceError
from builder.model.sources.weights import read_checkpoint
from builder.model.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from types import ModuleType

PREFIXES = ("", "module.", "model.", "_orig_mod.", "net.")
"""What training wrappers put before the names of a model's tensors."""

HEADS = ("classifier", "fc", "head", "heads")
"""What torchvision calls the part of a classification model that has a row for each class."""

TRAINING_HEADS = {"AuxLogits", "aux1", "aux2"}

Shapes = Mapping[str, tuple[int, ...]]

ASSUMED = (
    "ASSUMED: mean and std of ImageNet, with which torchvision's models are trained. Write those of your own training."
)


def inspect_checkpoint(path: Path, written: str, name: str) -> Draft:
    """Draft the recipe of a state dict (or training state); a pickled module is not opened."""
    try:
        content = read_checkpoint(path, trust_pickle=False)
    except SourceError as error:
        if "trust_pickle" not in (error.hint or ""):
            raise
        return _pickled(path, written, name)
    key, state = _state_dict(content, path)
    for prefix in PREFIXES:
        if all(k.startswith(prefix) for k in state):
            shapes = {k.removeprefix(prefix): tuple(v.shape) for k, v in state.items()}
            found = _torchvision_model(shapes)
            if found is not None:
                return _known(path, written, name, found, state_dict_key=key, prefix=prefix)
    named = _timm_model(content)
    if named is not None:
        return _of_timm(path, written, name, named, state, state_dict_key=key)
    return _unknown(path, written, name, state, key)


def _state_dict(content: object, path: Path) -> tuple[str | None, dict[str, torch.Tensor]]:
    """The tensors by name, and the dotted key of the entry that holds them."""
    for key, entry in _entries(content):
        if isinstance(entry, Mapping) and entry and all(isinstance(v, torch.Tensor) for v in entry.values()):
            return key, {str(name): value for name, value in entry.items()}
    raise SourceError(f"{path} holds no state dict: no mapping of names to tensors", code="B0303")


def _entries(content: object) -> Iterator[tuple[str | None, Any]]:
    yield None, content
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield str(key), value
        for key, value in content.items():
            if isinstance(value, Mapping):
                for inner, entry in value.items():
                    yield f"{key}.{inner}", entry


_FILLS = frozenset({"normal_", "uniform_", "fill_", "zero_", "mul_", "add_", "erfinv_", "clamp_", "copy_"})
"""Methods by which initialisation gives a tensor its values."""


class _EmptyOnMeta(TorchFunctionMode):
    """Makes `torch.empty`, from which layers take their weights, allocate nothing, and lets nothing be drawn."""

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        elif args and getattr(func, "__name__", "") in _FILLS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def _torchvision_model(shapes: Shapes) -> tuple[str, dict[str, Any]] | None:
    """The name and arguments of the classification model that has exactly these tensors, or None."""
    models = import_torchvision().models
    families: dict[str, list[str]] = {}
    for model in models.list_models(module=models):
        families.setdefault(models.get_model_builder(model).__module__, []).append(model)
    for family in families.values():
        if _parts(_shapes_of(models, family[0], 1000)) != _parts(shapes):
            continue
        for model in family:
            if _body(_shapes_of(models, model, 1000)) != _body(shapes):
                continue
            for classes in _classes(shapes):
                if _shapes_of(models, model, classes) == shapes:
                    return model, {} if classes == 1000 else {"num_classes": classes}
    return None


def _body(shapes: Shapes) -> Shapes:
    """What does not depend on the number of classes, but for heads of training."""
    return {name: shape for name, shape in shapes.items() if name.partition(".")[0] not in (*HEADS, *TRAINING_HEADS)}


def _classes(shapes: Shapes) -> list[int]:
    """How many classes the model may have: the rows of its head's weights, which safetensors puts in any place."""
    heads = {s[0]: None for name, s in shapes.items() if len(s) >= 2 and name.partition(".")[0] in HEADS}
    return list(heads)


def _parts(shapes: Shapes) -> set[str]:
    """The direct children of the model, but for heads of training, which not all of a family have."""
    return {name.partition(".")[0] for name in shapes} - TRAINING_HEADS


@cache
def _shapes_of(models: ModuleType, model: str, classes: int) -> Shapes:
    arguments: dict[str, object] = {"weights": None, "num_classes": classes}
    if model in ("googlenet", "inception_v3"):
        arguments["init_weights"] = False
    with _EmptyOnMeta():
        return {k: tuple(v.shape) for k, v in models.get_model(model, **arguments).state_dict().items()}


def _known(
    path: Path,
    written: str,
    name: str,
    found: tuple[str, dict[str, object]],
    *,
    state_dict_key: str | None,
    prefix: str,
) -> Draft:
    model, arguments = found
    transforms = import_torchvision().models.get_model_weights(model).DEFAULT.transforms()
    side = int(transforms.crop_size[0])
    image = {"kind": "image", "shape": [1, 3, side, side], "mean": list(transforms.mean), "std": list(transforms.std)}
    source: dict[str, object] = {"kind": "torchvision", "name": model, "file": written}
    source |= {"state_dict_key": state_dict_key} if state_dict_key else {}
    source |= {"strip_prefix": prefix} if prefix else {}
    source |= {"arguments": arguments} if arguments else {}
    return Draft(
        name=name,
        title=f"torchvision's {model} with the weights in {path.name}.",
        source=source,
        inputs={"image": image},
        why={
            "source.name": "The model of torchvision whose tensors have the names and shapes of the file's.",
            "source.factory": "The model of torchvision whose tensors have the names and shapes of the file's.",
            "source.arguments": "As many classes as the last layer has.",
            "input.image.shape": "The size of torchvision's own weights: write that of your training.",
            "input.image.mean": ASSUMED,
        },
        suggestions=CLASSIFIER,
    )


def _timm_model(content: object) -> str | None:
    """The model that a training state of timm's own script says it is of, or None."""
    model = content.get("arch") if isinstance(content, Mapping) else None
    if not isinstance(model, str) or find_spec("timm") is None:
        return None
    import_torchvision()
    import timm

    return model if timm.is_model(model.partition(".")[0]) else None


def _of_timm(
    path: Path, written: str, name: str, model: str, state: Mapping[str, torch.Tensor], *, state_dict_key: str | None
) -> Draft:
    import timm

    configuration = timm.get_pretrained_cfg(model, allow_unregistered=True)
    prefix = next((p for p in PREFIXES if p and all(k.startswith(p) for k in state)), "")
    source: dict[str, object] = {"kind": "timm", "name": model, "file": written}
    source |= {"state_dict_key": state_dict_key} if state_dict_key else {}
    source |= {"strip_prefix": prefix} if prefix else {}
    head = state.get(f"{prefix}{configuration.classifier}.weight") if configuration else None
    if head is not None and head.shape[0] != configuration.num_classes:
        source["arguments"] = {"num_classes": int(head.shape[0])}
    side = list(configuration.input_size) if configuration else [3, 224, 224]
    return Draft(
        name=name,
        title=f"timm's {model} with the weights in {path.name}.",
        source=source,
        inputs={"image": {"kind": "image", "shape": [1, *side], "from_weights": True}},
        why={
            "source.name": "The model that the file says its weights are of.",
            "source.arguments": "As many classes as the last layer has.",
            "input.image.shape": "The size of timm's own weights: write that of your training.",
            "input.image.from_weights": "ASSUMED: mean and std of timm's own weights. Where training used others, "
            "write `mean` and `std` instead.",
        },
        suggestions=CLASSIFIER,
    )


def _unknown(path: Path, written: str, name: str, state: Mapping[str, torch.Tensor], key: str | None) -> Draft:
    first = next((tuple(v.shape) for v in state.values() if v.ndim == 4), (0, 3))
    channels = first[1] if first[1] in (1, 3) else 3
    source: dict[str, object] = {"kind": "checkpoint", "file": written}
    if key:
        source["state_dict_key"] = key
    listed = ", ".join(list(state)[:3])
    return Draft(
        name=name,
        title=f"The weights in {path.name}.",
        source=source,
        inputs={"image": picture([1, channels, 224, 224])},
        why={"input.image.shape": "A GUESS: write the size that the model takes.", "input.image.scale": LEVELS},
        missing={
            "factory": "package.module:function, which makes the model that these weights are of "
            f"({len(state)} tensors: {listed}, …). None of torchvision's models has them. "
            "For a model of timm, choose `source: timm` above, and write its `name` instead."
        },
        suggestions=CLASSIFIER,
    )


def _pickled(path: Path, written: str, name: str) -> Draft:
    return Draft(
        name=name,
        title=f"The pickled module in {path.name}.",
        source={"kind": "checkpoint", "file": written},
        inputs={"image": picture([1, 3, 224, 224])},
        why={"input.image.shape": "A GUESS: write the size that the model takes.", "input.image.scale": LEVELS},
        missing={
            "trust_pickle": "the file holds Python objects, and reading them runs code that is in it. Write `true` if "
            "you trust the file, or save the weights alone: torch.save(model.state_dict(), 'weights.pth')."
        },
        suggestions=CLASSIFIER,
    )
