"""A torchvision model by name: published weights, a local file of weights, or seeded ones."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from builder.artifacts.stages import ExampleInputs, LoadedModel, Preprocessing
from builder.errors import SourceError
from builder.model.detection.detect import is_detector
from builder.model.sources.download import OfflineError, check_digest, fetch, file_digest
from builder.model.sources.example_inputs import fill_untrained, further_inputs, model_inputs
from builder.model.sources.seeded_detector import Untransformed, preparation, spread_scores
from builder.model.sources.state import load_state, module_digest, take_state
from builder.model.sources.weights import read_state_dict
from builder.model.torchvision_import import import_torchvision
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.source import TorchvisionSource
from builder.util.suggest import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

    from torchvision.models import WeightsEnum

    from builder.artifacts.origin import SourceOrigin


def load_torchvision(
    source: TorchvisionSource, spec: BuildSpec, examples: ExampleInputs, progress: Progress
) -> LoadedModel:
    """Make the model and fill it; raises SourceError when a name is unknown or weights cannot be had."""
    models = import_torchvision().models
    weights = _weights_member(models, source)
    preprocessing = None if weights is None else _preprocessing(weights)
    file, seeded = _weights_file(source, weights, progress)
    origin: SourceOrigin = {
        "kind": "torchvision",
        "name": source.name,
        "weights": None if weights is None else weights.name,
    }
    if file is not None:
        origin["file_sha256"] = file_digest(file)
        check_digest(file, origin["file_sha256"], source.sha256)
        state = read_state_dict(
            file, trust_pickle=False, state_dict_key=source.state_dict_key, strip_prefix=source.strip_prefix
        )
        key = "source.file" if source.file else "source.weights"
        module = _unfilled(models, source, weights, state)
        if module is None or not take_state(module, state):
            module = _make(models, source, weights, state)
            load_state(module, state, file=str(file), key=key)
        preprocessing = preparation(module) if is_detector(module) else preprocessing
    else:
        module = _make(models, source, weights, None)
        preprocessing = preparation(module) if is_detector(module) else preprocessing
        _fill(module, source.seed, spec, examples, preprocessing)
        origin["seed"] = source.seed
        if seeded and weights is not None:
            origin["weights_url"] = weights.url
    digest = module_digest(module)
    return LoadedModel(
        module=module.eval(),
        digest=digest,
        origin={**origin, "weights_digest": digest, "seeded": seeded},
        seeded=seeded,
        preprocessing=preprocessing,
        labels=None if weights is None else tuple(weights.meta.get("categories", ())) or None,
    )


def _fill(
    module: torch.nn.Module, seed: int, spec: BuildSpec, examples: ExampleInputs, preprocessing: Preprocessing | None
) -> None:
    """Seeded weights; of a detector such that it finds something."""
    inputs = model_inputs(spec, examples, preprocessing)
    if not is_detector(module):
        fill_untrained(module, inputs, seed, spec, further_inputs(spec, examples, preprocessing))
        return
    fill_untrained(Untransformed(module), inputs, seed, spec)
    spread_scores(module, inputs)


def _weights_member(models: ModuleType, source: TorchvisionSource) -> WeightsEnum | None:
    """Return the member of the model's weights enum, or None; the name alone or with its class."""
    if source.name not in models.list_models():
        raise SourceError(
            f"torchvision has no model {source.name}",
            code="B0308",
            hint=did_you_mean(source.name, models.list_models()),
            key="source.name",
        )
    if source.weights is None:
        return None
    enum = models.get_model_weights(source.name)
    name = source.weights.rpartition(".")[2]
    if name not in enum.__members__:
        names = list(enum.__members__)
        raise SourceError(
            f"torchvision's {source.name} has no weights {source.weights}; it has {', '.join(names) or 'none'}",
            code="B0308",
            hint=did_you_mean(name, names),
            key="source.weights",
        )
    return enum[name]


def _weights_file(
    source: TorchvisionSource, weights: WeightsEnum | None, progress: Progress
) -> tuple[Path | None, bool]:
    """Return the file of weights, or None with whether a wish for weights fell back to seeded ones."""
    if source.file is not None:
        return Path(source.file), False
    if weights is None:
        return None, False
    try:
        return fetch(weights.url, sha256=source.sha256, timeout=source.timeout, progress=progress), False
    except OfflineError as error:
        if source.offline == "error":
            hint = "give a local `source.file`, or write `source.offline: seeded` to build with untrained weights"
            raise error.replaced(hint=hint, key="source.weights") from error
        progress.warn(
            f"No network: {source.name} is built with UNTRAINED, seeded weights instead of {weights.name}. "
            "The artifact is good for trying the build, not for an app.",
            code="B0001",
        )
        return None, True


def _make(
    models: ModuleType, source: TorchvisionSource, weights: WeightsEnum | None, state: Mapping[str, torch.Tensor] | None
) -> Any:
    """Call torchvision's builder function without letting it download anything."""
    arguments = dict(source.arguments)
    function = models.get_model_builder(source.name)
    if "weights_backbone" in inspect.signature(function).parameters:
        arguments.setdefault("weights_backbone", None)
    categories = [] if weights is None else weights.meta.get("categories", [])
    given_weights = weights if state is not None else None
    if given_weights is None and categories and "num_classes" in _all_parameters(function):
        arguments.setdefault("num_classes", len(categories))
    try:
        with torch.random.fork_rng(devices=[]), _state_dict_at_hand(models, state):
            torch.manual_seed(source.seed)
            return function(weights=given_weights, **arguments)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"torchvision's {source.name} cannot be made with {arguments}: {error}",
            code="B0309",
            key="source.arguments",
        ) from error


class _WithoutValues(TorchFunctionMode):
    """Makes what a file is to fill on the device `meta`, and draws nothing for it.

    All else is made as always: what is computed on `meta` makes torch import its compiler, which takes seconds.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: object,
        arguments: tuple[Any, ...] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {**(keywords or {})}
        if function is torch.empty:
            return function(*arguments, **{**given, "device": "meta"})
        if function in _DRAWS or getattr(function, "__module__", "") == torch.nn.init.__name__:
            tensor = arguments[0] if arguments else given["tensor"]
            if tensor.is_meta:
                return tensor
        return function(*arguments, **given)


_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


def _unfilled(
    models: ModuleType, source: TorchvisionSource, weights: WeightsEnum | None, state: Mapping[str, torch.Tensor]
) -> Any | None:
    """The model without values, which nobody need draw where a file has all of them; None where it needs some."""
    try:
        with _WithoutValues(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision copies the state, which has no effect here
            return _make(models, source, weights, state)
    except SourceError:  # its constructor looks at values, or is wrong
        return None


def _all_parameters(function: Callable[..., object]) -> set[str]:
    """The parameters of a builder function; `**kwargs` go to the model class, which takes num_classes."""
    parameters = inspect.signature(function).parameters.values()
    takes_more = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    return {p.name for p in parameters} | ({"num_classes"} if takes_more else set())


@contextmanager
def _state_dict_at_hand(models: ModuleType, state: Mapping[str, torch.Tensor] | None) -> Iterator[None]:
    """While torchvision makes a model, let its weights enum return `state` instead of downloading."""
    enum = models.WeightsEnum
    original = enum.get_state_dict
    enum.get_state_dict = lambda *_args, **_kwargs: state
    try:
        yield
    finally:
        enum.get_state_dict = original


def _preprocessing(weights: Any) -> Preprocessing | None:
    """What the weights publish of their preparation; None where they publish no mean and std."""
    transforms = weights.transforms()
    mean, std = getattr(transforms, "mean", None), getattr(transforms, "std", None)
    if mean is None or std is None:
        return None
    return Preprocessing(
        mean=tuple(mean),
        std=tuple(std),
        resize_size=_first(getattr(transforms, "resize_size", None)),
        crop_size=_first(getattr(transforms, "crop_size", None)),
        interpolation=str(getattr(getattr(transforms, "interpolation", None), "value", "bilinear")),
    )


def _first(size: Any) -> int | None:
    if size is None:
        return None
    return int(size[0]) if isinstance(size, list | tuple) else int(size)


def address_of_weights(name: str, weights: str) -> str:
    """Where torchvision publishes the weights of a model."""
    found = import_torchvision().models.get_model_weights(name)
    return str(found[weights.rpartition(".")[2]].url)
