"""Integers with a linear scale: rounded to the nearest, or by GPTQ so that columns make up for each other's error."""

from __future__ import annotations

import torch
from torch import nn

from builder.artifacts.stages import Sample
from builder.backends.coreml.module_compression.context import Context
from builder.backends.coreml.module_compression.layers import CONVOLUTIONS, TRANSPOSED, Layers
from builder.backends.coreml.module_compression.method import Method
from builder.spec.module_compression import Gptq, PostTrainingQuantize


def why_not_rounded(module: nn.Module, step: PostTrainingQuantize) -> str | None:
    """`PostTrainingQuantizer` has no embeddings; blocks must divide the input channels."""
    if not isinstance(module, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)):
        return f"post_training_quantize does not take {type(module).__name__}"
    channels = module.get_parameter("weight").shape[1]
    if step.granularity == "per_block" and channels == (step.block_size or 32):
        return f"it has no more than the {channels} input channels of a block"  # coremltools leaves it out silently
    return _indivisible(module, step)


def why_not_gptq(module: nn.Module, step: Gptq) -> str | None:
    """GPTQ is defined for one matrix: grouped convolutions have several."""
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return f"gptq takes Linear and Conv2d, and this is {type(module).__name__}"
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return f"gptq takes convolutions of one group, and this has {module.groups}"
    if isinstance(module, nn.Conv2d) and isinstance(module.padding, str):
        return f"gptq takes convolutions with numbers for padding, and this has {module.padding!r}"
    return _indivisible(module, step)


def quantize(root: nn.Module, step: PostTrainingQuantize, layers: Layers, _: Context) -> nn.Module:
    """`PostTrainingQuantizer` on the chosen layers of `root`, in place."""
    from coremltools.optimize.torch.quantization import PostTrainingQuantizer, PostTrainingQuantizerConfig

    settings: dict[str, object] = {
        "weight_dtype": step.dtype,
        "granularity": step.granularity,
        "quantization_scheme": step.mode,
    }
    if step.granularity == "per_block":
        settings["block_size"] = step.block_size or 32
    config = PostTrainingQuantizerConfig.from_dict(
        {"global_config": settings, "module_name_configs": dict.fromkeys(layers.others)}
    )
    made: nn.Module = PostTrainingQuantizer(root, config).compress(inplace=True)
    return made


def quantize_by_gptq(root: nn.Module, step: Gptq, layers: Layers, context: Context) -> nn.Module:
    """The algorithm GPTQ of coremltools layer by layer, in the order in which the model calls them, in place.

    Each sees what the layers before it make of the data now that they are quantized. coremltools' own
    LayerwiseCompressor does this for sequential models alone.
    """
    from coremltools.optimize.torch._utils.metadata_utils import register_metadata_version
    from coremltools.optimize.torch.layerwise_compression.algorithms import GPTQ, ModuleGPTQConfig

    samples = context.samples(step.data, step.samples)
    settings: dict[str, object] = {
        "weight_dtype": f"uint{step.nbits}",
        "granularity": step.granularity,
        "quantization_scheme": step.mode,
        "hessian_dampening": step.hessian_dampening,
    }
    if step.granularity == "per_block":
        settings["block_size"] = step.block_size or 32
    for layer in _in_order(root, layers, samples[0], context):
        algorithm = GPTQ(layer, ModuleGPTQConfig.from_dict(settings))
        for sample in samples:
            for given, returned in _calls(root, layer, sample, context):
                algorithm.add_batch(given, returned)
        algorithm.compress()
        algorithm.cleanup()
    register_metadata_version(root)
    return root


def _in_order(root: nn.Module, layers: Layers, sample: Sample, context: Context) -> list[nn.Module]:
    """The chosen layers as the model calls them; one that it does not call stays as it is."""
    called: dict[int, nn.Module] = {}
    hooks = [
        m.register_forward_hook(lambda m, *_: called.setdefault(id(m), m) and None) for m in layers.chosen.values()
    ]
    try:
        context.returned(root, sample)
    finally:
        for hook in hooks:
            hook.remove()
    return list(called.values())


def _calls(
    root: nn.Module, layer: nn.Module, sample: Sample, context: Context
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What `layer` is given for a sample and what it returns, in all its calls."""
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = layer.register_forward_hook(lambda _, given, returned: calls.append((given[0].detach(), returned.detach())))
    try:
        context.returned(root, sample)
    finally:
        hook.remove()
    return calls


def _indivisible(module: nn.Module, step: PostTrainingQuantize | Gptq) -> str | None:
    channels, size = module.get_parameter("weight").shape[1], step.block_size or 32
    if step.granularity == "per_block" and channels % size:
        return f"its {channels} input channels are not a multiple of block_size {size}"
    return None


QUANTIZE = Method(apply=quantize, why_not=why_not_rounded)
QUANTIZE_BY_GPTQ = Method(apply=quantize_by_gptq, why_not=why_not_gptq)
