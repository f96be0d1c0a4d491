"""NeuralNetwork layers that work element by element: unary functions, activations, arithmetic, comparison, logic."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.errors import ModelError
from coreml_runtime.nn.layer import Binder, Kernel, Layer
from coreml_runtime.nn.weights import weight_count

if TYPE_CHECKING:
    from google.protobuf.message import Message


def _simple(function: Kernel) -> Binder:
    """A layer without parameters."""
    return lambda _: function


def _round(x: Tensor) -> Tensor:
    """Halves go to the even neighbour, as `numpy.around` does, which Apple's tests take as the reference."""
    return torch.round(x)


def unary(layer: Layer) -> Kernel:
    """f(scale * x + shift); zero for scale or epsilon means "not set" (UnaryFunctionLayerParams)."""
    p = layer.parameters
    alpha, epsilon, shift, scale = p.alpha, p.epsilon or 1e-6, p.shift, p.scale or 1.0
    functions: dict[int, Callable[[Tensor], Tensor]] = {
        p.SQRT: torch.sqrt,
        p.RSQRT: lambda x: torch.rsqrt(x + epsilon),
        p.INVERSE: lambda x: torch.reciprocal(x + epsilon),
        p.POWER: lambda x: torch.pow(x, alpha),
        p.EXP: torch.exp,
        p.LOG: lambda x: torch.log(x + p.epsilon),
        p.ABS: torch.abs,
        p.THRESHOLD: lambda x: torch.clamp(x, min=alpha),
    }
    if p.type not in functions:
        raise ModelError(f"layer {layer.name}: unary function {p.type} does not exist")
    function = functions[p.type]
    if scale == 1.0 and shift == 0.0:
        return function
    return lambda x: function(x * scale + shift)


def _channel_vector(message: Message, layer: Layer) -> Tensor:
    """One value, or one a channel at axis -3."""
    count = weight_count(message, layer.source.content)
    if count == 0:
        raise ModelError(f"layer {layer.name}: an activation parameter is empty")
    return layer.weights(message, (count, 1, 1) if count > 1 else (1,))


def activation(layer: Layer) -> Kernel:
    """ActivationParams: thirteen functions, chosen by a oneof."""
    kind = layer.parameters.WhichOneof("NonlinearityType")
    p: Message = getattr(layer.parameters, kind) if kind else None
    if kind == "PReLU":
        slope = _channel_vector(p.alpha, layer)
        return lambda x: torch.where(x >= 0, x, slope * x)
    if kind == "parametricSoftplus":
        alpha = _channel_vector(p.alpha, layer)
        beta = _channel_vector(p.beta, layer)
        return lambda x: alpha * functional.softplus(beta * x)
    functions: dict[str, Kernel] = {
        "linear": lambda x: p.alpha * x + p.beta,
        "ReLU": torch.relu,
        "leakyReLU": lambda x: functional.leaky_relu(x, p.alpha),
        "thresholdedReLU": lambda x: torch.where(x >= p.alpha, x, 0.0),
        "tanh": torch.tanh,
        "scaledTanh": lambda x: p.alpha * torch.tanh(p.beta * x),
        "sigmoid": torch.sigmoid,
        "sigmoidHard": lambda x: torch.clamp(p.alpha * x + p.beta, 0.0, 1.0),
        "ELU": lambda x: torch.where(x >= 0, x, p.alpha * torch.expm1(x)),
        "softsign": functional.softsign,
        "softplus": functional.softplus,
    }
    if kind not in functions:
        raise ModelError(f"layer {layer.name}: activation {kind!r} does not exist")
    return functions[kind]


def gelu(layer: Layer) -> Kernel:
    """Three formulas (GeluLayerParams)."""
    p = layer.parameters
    if p.mode == p.TANH_APPROXIMATION:
        return lambda x: functional.gelu(x, approximate="tanh")
    if p.mode == p.SIGMOID_APPROXIMATION:
        return lambda x: x * torch.sigmoid(1.702 * x)
    return functional.gelu


def clip(layer: Layer) -> Kernel:
    """min(max(x, minVal), maxVal)."""
    low, high = layer.parameters.minVal, layer.parameters.maxVal
    return lambda x: torch.clamp(x, low, high)


def clamped_relu(layer: Layer) -> Kernel:
    """min(beta, x) for x >= 0, min(beta, alpha * x) below."""
    alpha, beta = layer.parameters.alpha, layer.parameters.beta
    return lambda x: torch.clamp(functional.leaky_relu(x, alpha), max=beta)


def _many(scalar: Callable[[Tensor, float], Tensor], pair: Callable[[Tensor, Tensor], Tensor]) -> Binder:
    """Addition and multiplication: with one input the scalar `alpha` is the other operand."""

    def bind(layer: Layer) -> Kernel:
        alpha = layer.parameters.alpha
        if len(layer.inputs) == 1:
            return lambda x: scalar(x, alpha)
        return lambda *values: reduce(pair, values)

    return bind


def average(*values: Tensor) -> Tensor:
    """The mean of all inputs."""
    return reduce(torch.add, values) / len(values)


def dot(layer: Layer) -> Kernel:
    """Dot product, or cosine similarity, along axis -3; the last two dimensions are 1."""
    if layer.parameters.cosineSimilarity:
        return lambda x, y: functional.cosine_similarity(x, y, dim=-3).unsqueeze(-3)
    return lambda x, y: (x * y).sum(dim=-3, keepdim=True)


def _comparison(function: Callable[..., Tensor]) -> Binder:
    """1.0 where it holds, else 0.0; with one input the other operand is `alpha`."""

    def bind(layer: Layer) -> Kernel:
        alpha = layer.parameters.alpha
        if len(layer.inputs) == 1:
            return lambda x: function(x, alpha).float()
        return lambda x, y: function(x, y).float()

    return bind


def _logic(function: Callable[..., Tensor]) -> Binder:
    """Zero is false, all else true; the result is 1.0 or 0.0."""
    return lambda _: lambda *values: function(*values).float()


LAYERS: dict[str, Binder] = {
    "unary": unary,
    "activation": activation,
    "gelu": gelu,
    "clip": clip,
    "clampedReLU": clamped_relu,
    "ceil": _simple(torch.ceil),
    "floor": _simple(torch.floor),
    "round": _simple(_round),
    "sign": _simple(torch.sign),
    "exp2": _simple(torch.exp2),
    "sin": _simple(torch.sin),
    "cos": _simple(torch.cos),
    "tan": _simple(torch.tan),
    "asin": _simple(torch.asin),
    "acos": _simple(torch.acos),
    "atan": _simple(torch.atan),
    "sinh": _simple(torch.sinh),
    "cosh": _simple(torch.cosh),
    "tanh": _simple(torch.tanh),
    "asinh": _simple(torch.asinh),
    "acosh": _simple(torch.acosh),
    "atanh": _simple(torch.atanh),
    "erf": _simple(torch.erf),
    "add": _many(torch.add, torch.add),
    "multiply": _many(torch.mul, torch.mul),
    "average": _simple(average),
    "max": _simple(lambda *values: reduce(torch.maximum, values)),
    "min": _simple(lambda *values: reduce(torch.minimum, values)),
    "dot": dot,
    "equal": _comparison(torch.eq),
    "notEqual": _comparison(torch.ne),
    "lessThan": _comparison(torch.lt),
    "lessEqual": _comparison(torch.le),
    "greaterThan": _comparison(torch.gt),
    "greaterEqual": _comparison(torch.ge),
    "logicalAnd": _logic(torch.logical_and),
    "logicalOr": _logic(torch.logical_or),
    "logicalXor": _logic(torch.logical_xor),
    "logicalNot": _logic(torch.logical_not),
    "addBroadcastable": _simple(torch.add),
    "subtractBroadcastable": _simple(torch.sub),
    "multiplyBroadcastable": _simple(torch.mul),
    "divideBroadcastable": _simple(torch.div),
    "floorDivBroadcastable": _simple(torch.floor_divide),
    "modBroadcastable": _simple(torch.remainder),
    "powBroadcastable": _simple(torch.pow),
    "maxBroadcastable": _simple(torch.maximum),
    "minBroadcastable": _simple(torch.minimum),
    "whereBroadcastable": _simple(lambda condition, x, y: torch.where(condition != 0, x, y)),
}
