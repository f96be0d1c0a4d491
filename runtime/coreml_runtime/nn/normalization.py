"""NeuralNetwork layers that normalise, scale or shift."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.errors import ModelError
from coreml_runtime.nn.layer import Binder, Kernel, Layer, fold, unfold


def batchnorm(layer: Layer) -> Kernel:
    """Along axis -3; mean and variance from the file, the instance or the batch. Epsilon defaults to 1e-5."""
    p = layer.parameters
    epsilon, shape = p.epsilon or 1e-5, (p.channels,)
    gamma, beta = layer.weights(p.gamma, shape), layer.weights(p.beta, shape)
    if not p.computeMeanVar:
        scale = gamma / torch.sqrt(layer.weights(p.variance, shape) + epsilon)
        shift = beta - layer.weights(p.mean, shape) * scale
        scale, shift = scale.reshape(-1, 1, 1), shift.reshape(-1, 1, 1)
        return lambda x: torch.addcmul(shift, x, scale)
    instance = p.instanceNormalization

    def run(x: Tensor) -> Tensor:
        folded = fold(x, 3)
        if instance:
            centred = folded - folded.mean(dim=(-2, -1), keepdim=True)
            y = centred / torch.sqrt((centred * centred).mean(dim=(-2, -1), keepdim=True) + epsilon)
            y = y * gamma.reshape(-1, 1, 1) + beta.reshape(-1, 1, 1)
        else:
            y = functional.batch_norm(folded, None, None, gamma, beta, training=True, eps=epsilon)
        return unfold(y, x, 3)

    return run


def mvn(layer: Layer) -> Kernel:
    """Mean, and if asked variance, over (C, H, W) or over (H, W). Epsilon defaults to 1e-6."""
    p = layer.parameters
    axes = (-3, -2, -1) if p.acrossChannels else (-2, -1)
    epsilon, divide = p.epsilon or 1e-6, p.normalizeVariance

    def run(x: Tensor) -> Tensor:
        centred = x - x.mean(dim=axes, keepdim=True)
        if not divide:
            return centred
        return centred / torch.sqrt((centred * centred).mean(dim=axes, keepdim=True) + epsilon)

    return run


def l2normalize(layer: Layer) -> Kernel:
    """Gives x / sqrt(sum over (C, H, W) of x^2 + epsilon); epsilon defaults to 1e-6."""
    epsilon = layer.parameters.epsilon or 1e-6
    return lambda x: x * torch.rsqrt((x * x).sum(dim=(-3, -2, -1), keepdim=True) + epsilon)


def lrn(layer: Layer) -> Kernel:
    """Gives x / (k + alpha / localSize * sum over neighbouring channels of x^2)^beta; the channels are axis -3."""
    p = layer.parameters
    size, alpha, beta, k = int(p.localSize), p.alpha, p.beta, p.k or 1.0
    return lambda x: unfold(functional.local_response_norm(fold(x, 3), size, alpha, beta, k), x, 3)


def softmax(_: Layer) -> Kernel:
    """Along axis -3."""
    return lambda x: torch.softmax(x, dim=-3)


def softmax_nd(layer: Layer) -> Kernel:
    """Along the axis given."""
    axis = layer.parameters.axis
    return lambda x: torch.softmax(x, dim=axis)


def layer_normalization(layer: Layer) -> Kernel:
    """Over the last dimensions, as many as normalizedShape lists."""
    p = layer.parameters
    shape = tuple(int(size) for size in p.normalizedShape)
    gamma, beta, epsilon = layer.weights(p.gamma, shape), layer.weights(p.beta, shape), p.eps
    return lambda x: functional.layer_norm(x, shape, gamma, beta, epsilon)


def _broadcast_shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    """[1], [C], [1, H, W] or [C, H, W] as (C, H, W), so that it broadcasts over axes -3 to -1."""
    if len(shape) == 1:
        return (int(shape[0]), 1, 1)
    if len(shape) == 3:
        return tuple(int(size) for size in shape)
    raise ModelError(f"layer {name}: a scale or bias has shape {list(shape)}; 1 or 3 dimensions are possible")


def scale(layer: Layer) -> Kernel:
    """Gives x * scale + bias."""
    p = layer.parameters
    factor = _single(layer.weights(p.scale, _broadcast_shape(p.shapeScale, layer.name)))
    if not p.hasBias:
        return lambda x: x * factor
    shift = _single(layer.weights(p.bias, _broadcast_shape(p.shapeBias, layer.name)))
    return lambda x: torch.addcmul(shift, x, factor)


def bias(layer: Layer) -> Kernel:
    """Gives x + bias."""
    shift = _single(layer.weights(layer.parameters.bias, _broadcast_shape(layer.parameters.shape, layer.name)))
    return lambda x: x + shift


def _single(parameter: Tensor) -> Tensor:
    """A single value keeps the rank of inputs below 3."""
    return parameter.reshape(1) if parameter.numel() == 1 else parameter


LAYERS: dict[str, Binder] = {
    "batchnorm": batchnorm,
    "mvn": mvn,
    "l2normalize": l2normalize,
    "lrn": lrn,
    "softmax": softmax,
    "softmaxND": softmax_nd,
    "layerNormalization": layer_normalization,
    "scale": scale,
    "bias": bias,
}
