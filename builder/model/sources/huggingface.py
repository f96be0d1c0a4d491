"""A model of transformers: a local folder, a repository of the hub, or a configuration with seeded weights."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from builder.artifacts.stages import ExampleInputs, LoadedModel, Preprocessing
from builder.errors import SourceError
from builder.model.calling import Arguments, parameter_names
from builder.model.sources.decoder import CachedDecoder, prove
from builder.model.sources.download import OfflineError
from builder.model.sources.example_inputs import fill_untrained, further_inputs, model_inputs
from builder.model.sources.hub import repository_folder
from builder.model.sources.optional import optional_packages
from builder.model.sources.parts import DecoderPart, OnlyPart, as_transformers_takes, part_of
from builder.model.sources.state import module_digest
from builder.model.torchvision_import import import_torchvision
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.source import HuggingFaceSource
from builder.util.suggest import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

    from transformers import PreTrainedModel

    from builder.artifacts.origin import SourceOrigin


class NamedModel(torch.nn.Module):
    """A model of transformers that takes arrays in the recipe's order and returns all tensors by name."""

    def __init__(self, model: PreTrainedModel, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._inputs = tuple(inputs)

    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run on one tensor for each input; ids and masks are int64 inside, as transformers makes them."""
        given = as_transformers_takes(dict(zip(self._inputs, inputs, strict=True)))
        returned = self.model(**given, return_dict=True)
        return {name: value for name, value in returned.items() if isinstance(value, torch.Tensor)}


def load_huggingface(
    source: HuggingFaceSource, spec: BuildSpec, examples: ExampleInputs, progress: Progress
) -> LoadedModel:
    """Load the model; raises SourceError when names are unknown, files are missing, or it takes other inputs."""
    import_torchvision()  # transformers imports it, and would fail where its compiled operators do not load
    with optional_packages("huggingface"):
        import transformers
    folder, seeded = _folder(source, progress)
    with _quietly(transformers):
        model = _untrained(transformers, source) if folder is None else _saved(transformers, source, folder)
        _spell_out_experts(model)
    model.eval().float()  # RecurrentGemma has a buffer in bfloat16, whatever is asked for
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    part = part_of(model, source.part)
    preprocessing = None if folder is None else _preprocessing(folder)
    inputs = dict(zip(Arguments(spec.input).names, model_inputs(spec, examples, preprocessing), strict=True))
    module = _named(part, source, inputs).eval()
    origin: SourceOrigin = {
        "kind": "huggingface",
        "name": source.model or (None if folder else source.config_class),
        "file": None if folder is None else folder.name,
        "class": type(model).__name__,
        "revision": source.revision,
        "transformers": transformers.__version__,
    }
    if source.part is not None:
        origin["part"] = source.part
    if folder is None:
        filled = module if source.part is None else OnlyPart(model, module)
        others = further_inputs(spec, examples, preprocessing)
        fill_untrained(filled, list(inputs.values()), source.seed, spec, others)
        origin["seed"] = source.seed
    if isinstance(part, DecoderPart):
        part.drop_encoder()
    if isinstance(module, CachedDecoder):
        prove(module, source.cache_length or 0, inputs, spec.seed)
    digest = module_digest(module)
    labels: Mapping[int, str] = getattr(model.config, "id2label", None) or {}
    return LoadedModel(
        module=module,
        digest=digest,
        origin={**origin, "weights_digest": digest, "seeded": seeded},
        seeded=seeded,
        preprocessing=preprocessing,
        labels=tuple(str(labels[index]) for index in sorted(labels)) or None,
    )


def _named(
    model: PreTrainedModel, source: HuggingFaceSource, inputs: Mapping[str, torch.Tensor]
) -> NamedModel | CachedDecoder:
    """The model, called with the recipe's inputs, of which these are examples."""
    if source.cache_length is not None:
        return CachedDecoder(model, source.cache_length, inputs)
    _check_inputs(model, tuple(inputs))
    return NamedModel(model, tuple(inputs))


def _folder(source: HuggingFaceSource, progress: Progress) -> tuple[Path | None, bool]:
    """The folder with the model's files, or None with whether a wish for weights fell back to seeded ones."""
    if source.folder is not None:
        return Path(source.folder), False
    if source.model is None:
        return None, False
    if Path(source.model).is_dir():
        return Path(source.model), False
    try:
        return repository_folder(source.model, source.revision, timeout=source.timeout, progress=progress), False
    except OfflineError as error:
        if source.offline == "error":
            hint = "give a local `source.folder`, or write `source.offline: seeded` and a `config_class`"
            raise error.replaced(hint=hint, key="source.model") from error
        progress.warn(
            f"No network: {source.config_class} is built with UNTRAINED, seeded weights instead of {source.model}. "
            "The artifact is good for trying the build, not for an app.",
            code="B0001",
        )
        return None, True


def _saved(transformers: ModuleType, source: HuggingFaceSource, folder: Path) -> PreTrainedModel:
    where = f"{folder}" if source.model is None else source.model
    if not (folder / "config.json").is_file():
        raise SourceError(
            f"{folder} has no config.json",
            code="B0301",
            hint="it is the folder that `model.save_pretrained(folder)` writes",
            key="source.folder" if source.folder else "source.model",
        )
    try:
        model, loading = _class(transformers, source.auto_class, "source.auto_class").from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
            **source.arguments,
        )
    except Exception as error:
        raise SourceError(
            f"{source.auto_class} cannot load {where}: {_first_line(error)}",
            code="B0309",
            hint="compare `source.auto_class` with `architectures` in its config.json",
            key="source.auto_class",
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise SourceError(
            f"{where} has no weights for {len(missing)} parameters of {type(model).__name__} "
            f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''})",
            code="B0310",
            hint="compare `source.auto_class` with `architectures` in its config.json",
            key="source.auto_class",
        )
    return model


def _untrained(transformers: ModuleType, source: HuggingFaceSource) -> PreTrainedModel:
    configure = _class(transformers, source.config_class or "", "source.config_class")
    build = _class(transformers, source.auto_class, "source.auto_class")
    try:
        configuration = configure(**source.arguments)
    except Exception as error:
        raise SourceError(
            f"{source.config_class} cannot be made with {source.arguments}: {_first_line(error)}",
            code="B0309",
            key="source.arguments",
        ) from error
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed)
            configuration._attn_implementation = "eager"
            if hasattr(build, "from_config"):
                return build.from_config(configuration)
            return build(configuration)
    except Exception as error:
        raise SourceError(
            f"{source.auto_class} cannot be made from {source.config_class}: {_first_line(error)}",
            code="B0309",
            key="source.auto_class",
        ) from error


def _spell_out_experts(model: PreTrainedModel) -> None:
    """Let a mixture of experts gather the weights of each token's experts: transformers' own way counts tokens.

    How many tokens an expert gets depends on values, and so would shapes.
    """
    if hasattr(model, "set_experts_implementation") and type(model)._can_set_experts_implementation():
        model.set_experts_implementation("batched_mm")


def _class(transformers: ModuleType, name: str, key: str) -> Any:
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if not isinstance(found, type):
        raise SourceError(
            f"transformers has no class {name}", code="B0308", hint=did_you_mean(name, dir(transformers)), key=key
        )
    return found


def _check_inputs(model: PreTrainedModel, names: tuple[str, ...]) -> None:
    """Raise SourceError for an input that is not a parameter of the model's forward."""
    if isinstance(model, DecoderPart):
        called, known = f"the decoder of {type(model.whole).__name__}", model.parameter_names()
    else:
        called, known = type(model).__name__, parameter_names(model)
    for name in names:
        if name not in known:
            raise SourceError(
                f"{called} takes no input {name}; it takes {', '.join(known)}",
                code="B0315",
                hint=did_you_mean(name, known),
                key=f"input.{name}",
            )
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # what is kept for the next token is not an output of this model


def _preprocessing(folder: Path) -> Preprocessing | None:
    """Mean and std of the image processor that was saved beside the model; None where there is none."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{path} is damaged: {error}", code="B0302") from error
    mean, std = configuration.get("image_mean"), configuration.get("image_std")
    if not configuration.get("do_normalize", True):
        mean, std = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    if not mean or not std:
        return None
    return Preprocessing(mean=tuple(mean), std=tuple(std))


@contextmanager
def _quietly(transformers: ModuleType) -> Iterator[None]:
    """Send what transformers and torch print and warn about while a model is made to nowhere; errors are raised."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
