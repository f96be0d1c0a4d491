"""Compression that a user's own training goes with: quantization-aware training and pruning by magnitude."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from builder.backends.coreml.module_compression.context import Context
from builder.backends.coreml.module_compression.layers import CONVOLUTIONS, Layers
from builder.backends.coreml.module_compression.method import Method
from builder.errors import ConversionError
from builder.spec.module_compression import MagnitudePrune, QuantizationAwareTraining
from builder.util.user_code import call, import_object


def why_not_pruned(module: nn.Module, step: MagnitudePrune) -> str | None:
    """`MagnitudePruner` takes linear layers and convolutions; n of m must divide the input channels."""
    if not isinstance(module, (nn.Linear, *CONVOLUTIONS)):
        return f"magnitude_prune does not take {type(module).__name__}"
    channels = module.get_parameter("weight").shape[1]
    if step.n_m_ratio is not None and channels % step.n_m_ratio[1]:
        return f"its {channels} input channels are not a multiple of {step.n_m_ratio[1]}"
    return None


def why_not_trained(module: nn.Module, step: QuantizationAwareTraining) -> str | None:
    """`LinearQuantizer` takes linear layers and convolutions."""
    if not isinstance(module, (nn.Linear, *CONVOLUTIONS)):
        return f"{step.kind} does not take {type(module).__name__}"
    return None


def prune(root: nn.Module, step: MagnitudePrune, layers: Layers, context: Context) -> nn.Module:
    """`MagnitudePruner` on the chosen layers of `root`: at once, or along with the user's training."""
    from coremltools.optimize.torch.pruning import MagnitudePruner, MagnitudePrunerConfig

    steps = step.update_steps
    settings: dict[str, object] = {"target_sparsity": step.target_sparsity}
    if step.n_m_ratio is not None:
        settings = {"n_m_ratio": tuple(step.n_m_ratio)}
    elif len(steps) == 1:
        settings["initial_sparsity"] = step.target_sparsity
    settings["scheduler"] = {"update_steps": steps}
    config = {"global_config": settings, "module_name_configs": dict.fromkeys(layers.others)}
    pruner = MagnitudePruner(root, MagnitudePrunerConfig.from_dict(config))
    pruner.prepare(inplace=True)
    if step.training is None:
        pruner.step()
    else:
        _train(root, step.training, pruner.step, context)
    made: nn.Module = pruner.finalize(inplace=True)
    return made


def train_quantized(root: nn.Module, step: QuantizationAwareTraining, layers: Layers, context: Context) -> nn.Module:
    """`LinearQuantizer` on the chosen layers of `root`, along with the user's training."""
    from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig

    settings: dict[str, object] = {
        "quantization_scheme": step.mode,
        "weight_dtype": step.weight_dtype.replace("int", "qint"),
        "milestones": step.milestones,
    }
    if not step.activations:
        settings["activation_dtype"] = "float32"
    config = {"global_config": settings, "module_name_configs": dict.fromkeys(layers.others)}
    quantizer = LinearQuantizer(root, LinearQuantizerConfig.from_dict(config))
    prepared = quantizer.prepare(example_inputs=context.arguments(root, context.example), inplace=False)
    _train(prepared, step.training, quantizer.step, context)
    prepared.eval()
    made: nn.Module = quantizer.finalize()
    return made


def _train(model: nn.Module, path: str, step: Callable[[], None], context: Context) -> None:
    key = f"{context.key}.training"
    function = import_object(path, key=key)
    before = torch.random.get_rng_state()
    torch.manual_seed(context.seed)
    try:
        with torch.enable_grad():
            model.requires_grad_(True).train()
            call(function, path, model, step, key=key, error=ConversionError, code="B0416")
    finally:
        torch.random.set_rng_state(before)
        model.requires_grad_(False)


PRUNE = Method(apply=prune, why_not=why_not_pruned)
TRAIN_QUANTIZED = Method(apply=train_quantized, why_not=why_not_trained, folds=False)
