"""A timm model by name: published weights, a local file of weights, or seeded ones."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from builder.artifacts.stages import ExampleInputs, LoadedModel, Preprocessing
from builder.errors import SourceError
from builder.model.sources.download import OfflineError, check_digest, fetch, file_digest
from builder.model.sources.example_inputs import fill_untrained, further_inputs, model_inputs
from builder.model.sources.optional import optional_packages
from builder.model.sources.state import load_state, module_digest
from builder.model.sources.weights import read_state_dict
from builder.model.torchvision_import import import_torchvision
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.source import TimmSource
from builder.util.suggest import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

    from builder.artifacts.origin import SourceOrigin


def load_timm(source: TimmSource, spec: BuildSpec, examples: ExampleInputs, progress: Progress) -> LoadedModel:
    """Make the model and fill it; raises SourceError when a name is unknown or weights cannot be had."""
    import_torchvision()  # timm imports it, and would fail where its compiled operators do not load
    with optional_packages("timm"):
        import timm
    _check_name(timm, source)
    module = _make(timm, source)
    preprocessing = _preprocessing(module)
    file, seeded = _weights_file(module, source, progress)
    origin: SourceOrigin = {"kind": "timm", "name": source.name, "weights": None, "timm": timm.__version__}
    if file is not None:
        origin["file_sha256"] = file_digest(file)
        check_digest(file, origin["file_sha256"], source.sha256)
        origin["weights"] = None if source.file else str(module.pretrained_cfg["tag"] or "published")
        load_state(
            module, _fitting(module, file, source), file=str(file), key="source.file" if source.file else "source.name"
        )
    else:
        inputs = model_inputs(spec, examples, preprocessing)
        fill_untrained(module, inputs, source.seed, spec, further_inputs(spec, examples, preprocessing))
        origin["seed"] = source.seed
    digest = module_digest(module)
    return LoadedModel(
        module=module.eval(),
        digest=digest,
        origin={**origin, "weights_digest": digest, "seeded": seeded},
        seeded=seeded,
        preprocessing=preprocessing,
        labels=_labels(timm, module),
    )


def _check_name(timm: ModuleType, source: TimmSource) -> None:
    architecture, _, tag = source.name.partition(".")
    if not timm.is_model(architecture):
        raise SourceError(
            f"timm has no model {architecture}",
            code="B0308",
            hint=did_you_mean(architecture, timm.list_models()),
            key="source.name",
        )
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise SourceError(
            f"timm's {architecture} has no weights {tag}; it has {', '.join(tags) or 'none'}",
            code="B0308",
            hint=did_you_mean(tag, tags),
            key="source.name",
        )
    if source.pretrained and not tags and source.file is None:
        raise SourceError(f"timm publishes no weights of {architecture}", code="B0308", key="source.pretrained")


def _make(timm: ModuleType, source: TimmSource) -> Any:
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of timm's own use of what torch deprecates
            torch.manual_seed(source.seed)
            return timm.create_model(source.name, pretrained=False, **source.arguments).eval()
    except Exception as error:
        raise SourceError(
            f"timm's {source.name} cannot be made with {source.arguments}: {error}",
            code="B0309",
            key="source.arguments",
        ) from error


def _weights_file(module: Any, source: TimmSource, progress: Progress) -> tuple[Path | None, bool]:
    """Return the file of weights, or None with whether a wish for weights fell back to seeded ones."""
    if source.file is not None:
        return Path(source.file), False
    if not source.pretrained:
        return None, False
    try:
        return _download(module.pretrained_cfg, source, progress), False
    except OfflineError as error:
        if source.offline == "error":
            hint = "give a local `source.file`, or write `source.offline: seeded` to build with untrained weights"
            raise error.replaced(hint=hint, key="source.pretrained") from error
        progress.warn(
            f"No network: {source.name} is built with UNTRAINED, seeded weights instead of timm's. "
            "The artifact is good for trying the build, not for an app.",
            code="B0001",
        )
        return None, True


def _download(configuration: Mapping[str, Any], source: TimmSource, progress: Progress) -> Path:
    """The file in the hub's own cache, or fetched into ours."""
    repository, url = configuration.get("hf_hub_id"), configuration.get("url")
    if repository:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(repository, "model.safetensors")
        if isinstance(found, str):
            return Path(found)
        url = f"https://huggingface.co/{repository}/resolve/main/model.safetensors"
    if not url:
        raise SourceError(f"timm publishes no weights of {source.name}", code="B0308", key="source.pretrained")
    return fetch(url, sha256=source.sha256, timeout=source.timeout, progress=progress)


def _fitting(module: Any, file: Path, source: TimmSource) -> Mapping[str, torch.Tensor]:
    """The file's weights by the module's own names; older files are renamed by timm's own rule for the model."""
    state = read_state_dict(
        file, trust_pickle=False, state_dict_key=source.state_dict_key, strip_prefix=source.strip_prefix
    )
    rename = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if rename is None or state.keys() == module.state_dict().keys():
        return state
    try:
        renamed = rename(dict(state), module)
    except (KeyError, AttributeError, TypeError, RuntimeError):
        return state  # it is none of those that the rule is for: what does not fit is named by its own names
    return renamed if isinstance(renamed, Mapping) else state


def _preprocessing(module: object) -> Preprocessing | None:
    """The data configuration of the model; its pictures are cut from the middle of `crop_pct` of their size."""
    configuration = getattr(module, "pretrained_cfg", None) or {}
    mean, std = configuration.get("mean"), configuration.get("std")
    if not mean or not std:
        return None
    size = (configuration.get("input_size") or (3, 0, 0))[-1]
    return Preprocessing(
        mean=tuple(mean),
        std=tuple(std),
        resize_size=int(size / configuration.get("crop_pct", 1.0)) or None,
        crop_size=size or None,
        interpolation=str(configuration.get("interpolation", "bilinear")),
    )


def _labels(timm: ModuleType, module: object) -> tuple[str, ...] | None:
    """ImageNet's descriptions for a model with as many classes as its published weights; None for others."""
    subset = timm.data.infer_imagenet_subset(module)
    if subset is None:
        return None
    return tuple(timm.data.ImageNetInfo(subset).label_descriptions())
