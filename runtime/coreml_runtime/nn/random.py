"""NeuralNetwork layers that draw random numbers, by MIL's kernels; the shape is fixed or comes from an input."""

from collections.abc import Callable

from torch import Tensor

from coreml_runtime.nn.layer import Binder, Kernel, Layer, integers
from coreml_runtime.nn.mil import mil_context
from coreml_runtime.ops import random as kernels

_PARAMETERS: dict[str, tuple[Callable[..., Tensor], dict[str, str]]] = {
    "Normal": (kernels.random_normal, {"mean": "mean", "stddev": "stdDev"}),
    "Uniform": (kernels.random_uniform, {"low": "minVal", "high": "maxVal"}),
    "Bernoulli": (kernels.random_bernoulli, {"prob": "prob"}),
}
"""MIL's kernel of a distribution, and for each of its keywords the field of the layer."""


def _draw(distribution: str, variant: str) -> Binder:
    """`variant` is Static, Like or Dynamic: where the shape comes from."""
    kernel, names = _PARAMETERS[distribution]

    def bind(layer: Layer) -> Kernel:
        p = layer.parameters
        given: dict[str, object] = {keyword: getattr(p, field) for keyword, field in names.items()}
        given |= {"seed": int(p.seed), "context": mil_context(1)}
        if variant == "Static":
            shape = tuple(int(size) for size in p.outputShape)
            return lambda: kernel(shape=shape, **given)
        if variant == "Like":
            return lambda x: kernel(shape=tuple(x.shape), **given)
        return lambda x: kernel(shape=integers(x), **given)

    return bind


def categorical_distribution(layer: Layer) -> Kernel:
    """Class numbers drawn from logits, divided by a temperature (1 if not set), or from probabilities."""
    p = layer.parameters
    size, seed, temperature, context = int(p.numSamples), int(p.seed), p.temperature or 1.0, mil_context(1)
    if p.isLogits:
        return lambda x: kernels.random_categorical(
            x=x / temperature, mode="logits", size=size, seed=seed, context=context
        )
    return lambda x: kernels.random_categorical(x=x, mode="probs", size=size, seed=seed, context=context)


LAYERS: dict[str, Binder] = {
    **{
        f"random{distribution}{variant}": _draw(distribution, variant)
        for distribution in _PARAMETERS
        for variant in ("Static", "Like", "Dynamic")
    },
    "categoricalDistribution": categorical_distribution,
}
