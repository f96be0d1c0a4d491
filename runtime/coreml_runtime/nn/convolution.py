"""NeuralNetwork convolutions and deconvolutions in two and three dimensions."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from coreml_runtime.errors import ModelError
from coreml_runtime.nn.layer import Binder, Kernel, Layer, fold, unfold
from coreml_runtime.nn.padding import Padding, border_pairs, resolve, torch_order
from coreml_runtime.ops.conv import conv
from coreml_runtime.ops.padding import is_symmetric
from coreml_runtime.prepack import ShapeSpecializedKernel

_CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSE = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, p: Padding, groups: int) -> Tensor:
    """Over x (N, C, spatial…) with weight (C_out, C / groups, kernel…)."""
    run = _CONVOLVE[len(p.strides)]
    pairs = resolve(p, x.shape[2:])
    if is_symmetric(pairs):
        before = [pair[0] for pair in pairs]
        return run(x, weight, bias, p.strides, before, p.dilations, groups)
    return run(functional.pad(x, torch_order(pairs)), weight, bias, p.strides, 0, p.dilations, groups)


def deconvolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, p: Padding, groups: int, output_shape: Sequence[int]
) -> Tensor:
    """Over x (N, C, spatial…) with weight (C, C_out / groups, kernel…): the full transpose, cropped."""
    full = _TRANSPOSE[len(p.strides)](x, weight, None, p.strides, 0, 0, groups, p.dilations)
    crops = []
    for axis, size in enumerate(full.shape[2:]):
        if p.same:
            target = output_shape[axis] if output_shape else x.shape[2 + axis] * p.strides[axis]
            before = max(size - target, 0) // 2 if not p.heavy_first else (max(size - target, 0) + 1) // 2
        else:
            before = p.pairs[axis][0]
            target = output_shape[axis] if output_shape else size - sum(p.pairs[axis])
        crops.append((-before, target + before - size))
    y = functional.pad(full, torch_order(crops)) if any(pair != (0, 0) for pair in crops) else full
    return y if bias is None else y + bias.reshape(-1, *[1] * len(p.strides))


def _padding_of(parameters: Any) -> Padding:
    """Padding, strides and dilation of a 2-D layer; absent numbers mean 1 (ConvolutionLayerParams)."""
    kind = parameters.WhichOneof("ConvolutionPaddingType")
    return Padding(
        kernel=tuple(parameters.kernelSize) or (3, 3),
        strides=tuple(parameters.stride) or (1, 1),
        dilations=tuple(parameters.dilationFactor) or (1, 1),
        same=kind == "same",
        heavy_first=kind == "same" and parameters.same.asymmetryMode == 1,
        pairs=border_pairs(parameters.valid.paddingAmounts) if kind == "valid" else ((0, 0), (0, 0)),
    )


def convolution(layer: Layer) -> Kernel:
    """Two-dimensional (de)convolution over (…, C, H, W); the weight may be the second input."""
    p = layer.parameters
    padding, groups, out, channels = _padding_of(p), p.nGroups or 1, p.outputChannels, p.kernelChannels
    bias = layer.weights(p.bias, (out,)) if p.hasBias else None
    if p.isDeconvolution:
        shape = (channels, out // groups, *padding.kernel)
        weight = layer.weights(p.weights, shape, axis=1)  # as coremltools quantises it, of groups too
        target = tuple(p.outputShape)
        return lambda x: unfold(deconvolve(fold(x, 3), weight, bias, padding, groups, target), x, 3)
    if len(layer.inputs) == 2:
        return lambda x, given: unfold(convolve(fold(x, 3), given, bias, padding, groups), x, 3)
    kept = layer.later(p.weights, (out, channels, *padding.kernel))
    fixed = {"bias": bias, "strides": padding.strides, "dilations": padding.dilations, "groups": groups}
    constant = ShapeSpecializedKernel("conv", conv, kept, fixed, layer.source.packer)

    def run(x: Tensor) -> Tensor:
        folded = fold(x, 3)
        pairs = resolve(padding, folded.shape[2:])
        if not is_symmetric(pairs):
            folded, pairs = functional.pad(folded, torch_order(pairs)), ((0, 0), (0, 0))
        amounts = tuple(amount for pair in pairs for amount in pair)
        return unfold(constant(folded, pad_type="custom", pad=amounts), x, 3)

    return run


def convolution3d(layer: Layer) -> Kernel:
    """Three-dimensional (de)convolution over (N, C, D, H, W)."""
    p = layer.parameters
    custom = p.paddingType == p.CUSTOM
    padding = Padding(
        kernel=(p.kernelDepth, p.kernelHeight, p.kernelWidth),
        strides=(p.strideDepth or 1, p.strideHeight or 1, p.strideWidth or 1),
        dilations=(p.dilationDepth or 1, p.dilationHeight or 1, p.dilationWidth or 1),
        same=p.paddingType == p.SAME,
        heavy_first=False,
        pairs=(
            (p.customPaddingFront, p.customPaddingBack),
            (p.customPaddingTop, p.customPaddingBottom),
            (p.customPaddingLeft, p.customPaddingRight),
        )
        if custom
        else ((0, 0), (0, 0), (0, 0)),
    )
    groups = p.nGroups or 1
    if p.outputChannels % groups or p.inputChannels % groups:
        raise ModelError(f"layer {layer.name}: {groups} groups do not divide the channels")
    bias = layer.weights(p.bias, (p.outputChannels,)) if p.hasBias else None
    if p.isDeconvolution:
        # As the builder writes it; the comment in NeuralNetwork.proto names the channels the other way round.
        weight = layer.weights(p.weights, (p.inputChannels, p.outputChannels // groups, *padding.kernel))
        target = tuple(p.outputShape)
        return lambda x: deconvolve(x, weight, bias, padding, groups, target)
    weight = layer.weights(p.weights, (p.outputChannels, p.inputChannels // groups, *padding.kernel))
    return lambda x: convolve(x, weight, bias, padding, groups)


LAYERS: dict[str, Binder] = {"convolution": convolution, "convolution3d": convolution3d}
