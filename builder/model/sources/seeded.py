"""Give a module untrained weights that are fit to check with: the same bits from one seed on every machine.

torch's default initialisation gives MobileNetV2 outputs near 1e-9, which are all zero in half precision, and starts
class tokens, heads and layer scales at (nearly) zero. Here every parameter is drawn anew so that variance is
preserved, and batch norm gets the statistics of one forward pass.

Weights are uniform and come from numpy's PCG64 as exact multiples of 2^-24, because torch's normal distribution
depends on the instruction set. The forward pass runs in float64 and its statistics are rounded to 8 bits: what thread
counts and processors change lies near the 50th bit, so it vanishes unless a statistic happens to lie within about
1e-13 of the border between two rounded values (with the 34,000 statistics of MobileNetV2 about one case in 10^5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

SIGNIFICANT_BITS = 8
"""How many bits batch-norm statistics keep; the rest depends on the order of summation."""

LEAST_VALUES = 16
"""With fewer values than this in each channel, statistics are taken over the whole layer."""

FREE_STD = 0.25
"""Standard deviation of parameters that are neither weight nor bias: tokens, position embeddings, bias tables."""
BIAS_STD = 0.1
LAYER_SCALE = 0.5

BATCH_NORM_SHIFT = 0.5
"""Mean shift of batch norm: with 0, half of each signal lies beyond ReLU's kink, and the rounding of half precision
grows to 3 % of MobileNetV2's output; with 0.5 it stays below 1 %, and two photographs still differ by 20 %."""

LEAST_VARIANCE = 0.1
"""Least variance of a channel as a share of its layer's mean: what a nearly constant channel carries is rounding."""


BLOW_UP = 100.0
"""How many times larger than for the example inputs outputs for others may be: LeViT's are ten thousand times."""

GROWTH = 1000.0
"""How many times larger a small change of the inputs may be at the outputs: 2.5 of MobileNetV2, 5,000 of ConvMixer.

Rounding grows as much in every layer. Both are relative, and in float64, so that every machine decides alike.
"""
CALMER = 1.5
"""By how much variances are taken for larger where it is more: signals are narrower, and rounding dies out."""


def initialise_seeded(
    module: nn.Module, example_inputs: Sequence[Tensor], seed: int, others: Sequence[Sequence[Tensor]] = ()
) -> None:
    """Overwrite all parameters and batch-norm statistics of `module` in place; leave it in eval mode.

    `example_inputs` are the positional arguments of one forward pass, as the model takes them (pictures normalised);
    float tensors, (N, C, H, W) for pictures. A larger N gives better statistics. Unused where no layer keeps any.
    `others` are those of further passes: where one blows up, statistics are those of all together, and their mirror
    images. A picture whose parts are all alike says nothing of how pictures differ, as in LeViT's last layers.
    """
    module.eval()
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        _draw_parameters(module, generator)
        if any(_keeps_statistics(layer) for layer in module.modules()):
            given = example_inputs
            outputs = _measure_statistics(module, given)
            if others and _size(_outputs(module, others[0])) > BLOW_UP * _size(outputs):
                given = _together([example_inputs, *others])
                outputs = _measure_statistics(module, given)
            if _growth(module, given, outputs) > GROWTH:
                for layer in module.modules():
                    if _keeps_statistics(layer):
                        _statistic(layer, "running_var").mul_(CALMER)


def _growth(module: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """By how much more than the inputs the outputs change, relative to their sizes; 0 where they are not in float64."""
    if not all(output.dtype == torch.float64 for output in outputs):
        return 0.0
    small = 1e-6
    changed = []
    for x in inputs:
        signs = torch.ones(x.numel(), dtype=torch.float64)
        signs[1::2] = -1
        changed.append(x.double() * (1 + small * signs.view(x.shape)) if x.is_floating_point() else x)
    with one_thread(), in_float64(module):
        others = _outputs(module, changed)
    apart = sum(float((a - b).square().sum()) for a, b in zip(others, outputs, strict=True))
    size = sum(float(output.square().sum()) for output in outputs)
    return math.sqrt(apart / size) / small if size else 0.0


def _outputs(module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of floats among all that a module returns.

    What layers keep of the run, in its dtype, goes: LeViT keeps its biases while it is in eval mode.
    """
    try:
        leaves = tree_leaves(module(*inputs))
    finally:
        module.train()
        module.eval()
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _size(outputs: Sequence[Tensor]) -> float:
    """The root mean square of each output, and of these the root of the sum of squares."""
    return math.sqrt(sum(float(x.double().square().mean()) for x in outputs if x.numel()))


def _together(passes: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Several passes as one of a larger batch; pictures also upside down, and as a mirror shows them."""
    found = []
    for tensors in zip(*passes, strict=True):
        turns = [(), (2,), (3,), (2, 3)] if tensors[0].ndim == 4 else [()]
        found.append(torch.cat([x.flip(axes) for axes in turns for x in tensors]))
    return found


def _draw_parameters(module: nn.Module, generator: np.random.Generator) -> None:
    gain = 1.0 if any(_normalises(layer) for layer in module.modules()) else 2.0  # only ReLU alone halves variance
    done: set[int] = set()
    for layer in module.modules():
        drawn = [*layer.named_parameters(recurse=False), *_affine_buffers(layer)]
        for name, parameter in drawn:
            if id(parameter) not in done and parameter.is_floating_point():
                done.add(id(parameter))
                parameter.copy_(_draw(layer, name, parameter, gain, generator))


def _draw(layer: nn.Module, name: str, parameter: Tensor, gain: float, generator: np.random.Generator) -> Tensor:
    """Return new float32 values for one parameter; which rule holds follows from its layer, name and rank."""

    def uniform(std: float, center: float = 0.0) -> Tensor:
        values = generator.random(parameter.numel(), dtype=np.float32)
        values -= np.float32(0.5)
        values *= np.float32(std * math.sqrt(12.0))
        values += np.float32(center)
        return torch.from_numpy(values).view(parameter.shape)

    if name.endswith("bias") or name.startswith("bias"):
        return uniform(BIAS_STD, center=BATCH_NORM_SHIFT if _keeps_statistics(layer) else 0.0)
    if name.endswith("weight") or name.startswith("weight"):
        if parameter.ndim < 2:
            return uniform(BIAS_STD, center=1.0) if _normalises(layer) else uniform(BIAS_STD, center=FREE_STD)
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            return uniform(1.0)
        return uniform(math.sqrt(gain / _fan_in(layer, parameter)))
    if _is_constant(parameter):
        value = float(parameter.flatten()[0])
        if value != 0.0:
            return torch.full_like(parameter, value if abs(value) > 1e-2 else LAYER_SCALE, dtype=torch.float32)
    return uniform(FREE_STD)


def _fan_in(layer: nn.Module, weight: Tensor) -> int:
    """How many inputs add up to one output of a weight (out, in/groups, *kernel); transposed ones are (in, out, …)."""
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        overlap = max(1, math.prod(weight.shape[2:]) // math.prod(layer.stride))
        return max(1, weight.shape[0] // layer.groups * overlap)
    return max(1, weight[0].numel())


def _measure_statistics(module: nn.Module, example_inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run once in float64; each layer takes the rounded statistics of its input just before it runs.

    Returns the outputs, which are those of the module with these statistics.

    Models that mix dtypes then run in float32, where another order of summation may change a statistic's last bit.
    """
    hooks = [
        layer.register_forward_pre_hook(_take_statistics) for layer in module.modules() if _keeps_statistics(layer)
    ]
    try:
        with one_thread():
            try:
                with in_float64(module):
                    return _outputs(module, [x.double() if x.is_floating_point() else x for x in example_inputs])
            except RuntimeError:  # of a model that makes float32 tensors of its own, as RAFT's grid
                return _outputs(module, example_inputs)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core: many small float64 operators take ten times as long when threads wait for a busy one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def in_float64(module: nn.Module) -> Iterator[None]:
    """Parameters and buffers in double precision; back to what they were afterwards."""
    tensors = [t for t in [*module.parameters(), *module.buffers()] if t.is_floating_point()]
    dtypes: Mapping[int, torch.dtype] = {id(t): t.dtype for t in tensors}
    for tensor in tensors:
        tensor.data = tensor.data.double()
    try:
        yield
    finally:
        for tensor in tensors:
            tensor.data = tensor.data.to(dtypes[id(tensor)])


def _take_statistics(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Set `running_mean` and `running_var` from an input (N, C, *)."""
    x = inputs[0].double()
    channels = x.transpose(0, 1).flatten(1)
    if channels.shape[1] < LEAST_VALUES:
        mean, variance = x.mean().expand(x.shape[1]), x.var(correction=0).expand(x.shape[1])
    else:
        mean, variance = channels.mean(1), channels.var(1, correction=0)
    variance = torch.maximum(variance, LEAST_VARIANCE * variance.mean())
    variance = torch.where(variance > 1e-12, variance, 1.0)
    variance = round_to_bits(variance, variance)
    _statistic(layer, "running_mean").copy_(round_to_bits(mean, variance.sqrt()))
    _statistic(layer, "running_var").copy_(variance)


def round_to_bits(values: Tensor, scale: Tensor) -> Tensor:
    """Round to multiples of 2^-8 of the power of two above `scale`."""
    _, exponent = torch.frexp(scale)
    return torch.ldexp(torch.ldexp(values, SIGNIFICANT_BITS - exponent).round(), exponent - SIGNIFICANT_BITS)


def _statistic(layer: nn.Module, name: str) -> Tensor:
    statistic = getattr(layer, name)
    assert isinstance(statistic, Tensor)
    return statistic


def _keeps_statistics(layer: nn.Module) -> bool:
    """Whether the layer normalises by stored statistics: batch norm, frozen batch norm, tracking instance norm."""
    return isinstance(getattr(layer, "running_mean", None), Tensor)


def _affine_buffers(layer: nn.Module) -> list[tuple[str, Tensor]]:
    """Scale and shift of a frozen batch norm, which are buffers there."""
    if not _keeps_statistics(layer):
        return []
    return [(name, buffer) for name, buffer in layer.named_buffers(recurse=False) if name in ("weight", "bias")]


_NORMALISING: tuple[type[nn.Module], ...] = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def _normalises(layer: nn.Module) -> bool:
    return _keeps_statistics(layer) or isinstance(layer, _NORMALISING)


def _is_constant(parameter: Tensor) -> bool:
    return bool((parameter == parameter.flatten()[0]).all())
