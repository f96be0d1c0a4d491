"""Tables of values, found by plain k-means or by one that weighs each weight by its effect on the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from builder.backends.coreml.module_compression.context import Context
from builder.backends.coreml.module_compression.layers import CONVOLUTIONS, TRANSPOSED, Layers
from builder.backends.coreml.module_compression.method import Method
from builder.errors import ConversionError
from builder.spec.module_compression import PostTrainingPalettize, SensitiveKmeans
from builder.util.user_code import call, import_object

TAKES = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED, nn.Embedding)


def why_not(module: nn.Module, step: PostTrainingPalettize | SensitiveKmeans) -> str | None:
    """Tables are for all layers; groups must divide the channels."""
    channels = module.get_parameter("weight").shape[0]
    size = step.group_size or 32
    if step.granularity == "per_grouped_channel" and channels % size:
        return f"its {channels} channels are not a multiple of group_size {size}"
    return None


def palettize(root: nn.Module, step: PostTrainingPalettize, layers: Layers, _: Context) -> nn.Module:
    """`PostTrainingPalettizer` on the chosen layers of `root`, in place."""
    from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig

    config = PostTrainingPalettizerConfig.from_dict(_settings(step, layers))
    made: nn.Module = PostTrainingPalettizer(root, config).compress(num_kmeans_workers=1, inplace=True)
    return made


def palettize_by_loss(root: nn.Module, step: SensitiveKmeans, layers: Layers, context: Context) -> nn.Module:
    """`SKMPalettizer` (SqueezeLLM, Kim et al. 2023) on the chosen layers of `root`, in place."""
    from coremltools.optimize.torch.palettization import SKMPalettizer, SKMPalettizerConfig

    samples = context.samples(step.data, step.samples)
    loss = _loss(step, context)
    config = SKMPalettizerConfig.from_dict(_settings(step, layers) | {"calibration_nsamples": len(samples)})
    palettizer = SKMPalettizer(root, config)
    with torch.enable_grad():
        root.requires_grad_(True)
        made: nn.Module = palettizer.compress(
            dataloader=samples,
            loss_fn=lambda model, sample: loss(context.returned(model, sample)),
            num_kmeans_workers=1,
            inplace=True,
        )
    return made.requires_grad_(False)


def _settings(step: PostTrainingPalettize | SensitiveKmeans, layers: Layers) -> dict[str, object]:
    table: dict[str, object] = {"n_bits": step.nbits, "granularity": step.granularity}
    if step.granularity == "per_grouped_channel":
        table["group_size"] = step.group_size or 32
    return {"global_config": table, "module_name_configs": dict.fromkeys(layers.others)}


def _loss(step: SensitiveKmeans, context: Context) -> Any:
    if step.loss is None:
        return _own_class if context.is_classifier else _squares
    key = f"{context.key}.loss"
    function = import_object(step.loss, key=key)

    def loss(outputs: object) -> torch.Tensor:
        value = call(function, str(step.loss), outputs, key=key, error=ConversionError, code="B0416")
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ConversionError(
                f"{step.loss} returned {type(value).__name__}, expected one number", code="B0410", key=key
            )
        return value

    return loss


def _own_class(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The cross entropy with the best class, for scores (N, classes) before softmax."""
    return nn.functional.cross_entropy(outputs[0], outputs[0].argmax(-1))


def _squares(outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.stack([output.square().sum() for output in outputs if output.is_floating_point()]).sum()


PALETTIZE = Method(apply=palettize, why_not=why_not)
PALETTIZE_BY_LOSS = Method(apply=palettize_by_loss, why_not=why_not)
