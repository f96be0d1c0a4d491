"""Products and norms of ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping

from builder.backends.coreml.lowerings.lowering import Var
from builder.backends.coreml.lowerings.onnx_elementwise import number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_quantized import is_stored, transposed
from builder.backends.coreml.lowerings.onnx_reduction import constant
from builder.backends.coreml.lowerings.onnx_shape import is_fixed


def _matmul(lowerer: OnnxLowerer, node: Node, inputs: Inputs, _: Attributes) -> list[Var]:
    """Vectors are rows on the left and columns on the right, as in numpy."""
    mb, (x, y) = lowerer.mb, inputs
    if is_stored(y) and y.rank == 2 and x.rank > 1:
        return [mb.linear(x=x, weight=transposed(mb, y, (1, 0)), name=lowerer.fresh_name(node))]
    left, right = x.rank == 1, y.rank == 1
    x = mb.expand_dims(x=x, axes=[0]) if left else x
    y = mb.expand_dims(x=y, axes=[1]) if right else y
    product = mb.matmul(x=x, y=y, name=lowerer.fresh_name(node))
    axes = ([product.rank - 2] if left else []) + ([product.rank - 1] if right else [])
    return [mb.squeeze(x=product, axes=axes) if axes else product]


def _gemm(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    mb, (a, b, c) = lowerer.mb, [*inputs, None][:3]
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if is_stored(b) and (alpha, beta) == (1.0, 1.0) and not attributes.get("transA", 0):
        weight = b if attributes.get("transB", 0) else transposed(mb, b, (1, 0))
        fits = c is not None and c.val is not None and c.shape == (weight.shape[0],)
        y = mb.linear(x=a, weight=weight, name=lowerer.fresh_name(node), **({"bias": c} if fits else {}))
        return [y if fits or c is None else mb.add(x=y, y=c)]
    if abs(alpha) < 1:  # before the product, which may overflow half precision without it
        a, alpha = mb.mul(x=a, y=number(lowerer, a, alpha)), 1.0
    y = mb.matmul(
        x=a, y=b, transpose_x=bool(attributes.get("transA", 0)), transpose_y=bool(attributes.get("transB", 0)),
        name=lowerer.fresh_name(node, "matmul"),
    )  # fmt: skip
    y = y if alpha == 1.0 else mb.mul(x=y, y=number(lowerer, y, alpha))
    if c is None or beta == 0.0:
        return [y]
    c = c if beta == 1.0 else mb.mul(x=c, y=number(lowerer, c, beta))
    return [mb.add(x=y, y=c, name=lowerer.fresh_name(node))]


def _normalized(lowerer: OnnxLowerer, x: Var, axes: list[int], epsilon: float) -> tuple[Var, Var, Var]:
    """(x - mean) / sqrt(variance + epsilon), the mean, and 1 / sqrt(variance + epsilon), over axes that are kept.

    Computed with x - mean divided by its largest value s where that is above 1: squares of what is 256 or more overflow
    half precision. (x - mean) / sqrt(variance + epsilon) = z / sqrt(mean(z²) + epsilon / s²) with z = (x - mean) / s.
    """
    mb, one = lowerer.mb, number(lowerer, x, 1.0)
    mean = mb.reduce_mean(x=x, axes=axes, keep_dims=True)
    centred = mb.sub(x=x, y=mean)
    inverse = mb.real_div(x=one, y=mb.maximum(x=mb.reduce_max(x=mb.abs(x=centred), axes=axes, keep_dims=True), y=one))
    scaled = mb.mul(x=centred, y=inverse)
    squares = mb.reduce_mean(x=mb.mul(x=scaled, y=scaled), axes=axes, keep_dims=True)
    least = mb.mul(x=mb.mul(x=inverse, y=inverse), y=number(lowerer, x, epsilon))
    root = mb.real_div(x=one, y=mb.sqrt(x=mb.add(x=squares, y=least)))
    return mb.mul(x=scaled, y=root), mean, mb.mul(x=root, y=inverse)


def _layer_norm(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Core ML's where scale and offset are constant; the mean and 1 / deviation are outputs too."""
    mb, (x, scale, offset) = lowerer.mb, [*inputs, None, None][:3]
    axes = list(range(int(attributes.get("axis", -1)) % x.rank, x.rank))
    epsilon = float(attributes.get("epsilon", 1e-5))
    several = len([name for name in node.output if name]) > 1
    given = [value for value in (scale, offset) if value is not None]
    if not several and all(value.val is not None and value.rank == len(axes) for value in given):
        how = {"gamma": scale} if scale is not None else {}
        how |= {"beta": offset} if offset is not None else {}
        return [
            mb.layer_norm(x=x, axes=axes, epsilon=number(lowerer, x, epsilon), name=lowerer.fresh_name(node), **how)
        ]
    y, mean, inverse = _normalized(lowerer, x, axes, epsilon)
    y = y if scale is None else mb.mul(x=y, y=scale)
    return [y if offset is None else mb.add(x=y, y=offset), mean, inverse]


def _rms_norm(lowerer: OnnxLowerer, _node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """X / sqrt(mean(x²) + epsilon) * scale, with x divided by its largest value where that is above 1.

    ONNX's own definition squares x as it is, which overflows half precision from 256 on.
    """
    mb, (x, scale) = lowerer.mb, inputs
    axes, one = list(range(int(attributes.get("axis", -1)) % x.rank, x.rank)), number(lowerer, x, 1.0)
    inverse = mb.real_div(x=one, y=mb.maximum(x=mb.reduce_max(x=mb.abs(x=x), axes=axes, keep_dims=True), y=one))
    scaled = mb.mul(x=x, y=inverse)
    squares = mb.reduce_mean(x=mb.mul(x=scaled, y=scaled), axes=axes, keep_dims=True)
    epsilon = number(lowerer, x, float(attributes.get("epsilon", 1e-5)))
    least = mb.mul(x=mb.mul(x=inverse, y=epsilon), y=inverse)
    return [mb.mul(x=mb.real_div(x=scaled, y=mb.sqrt(x=mb.add(x=squares, y=least))), y=scale)]


def _by_channel(lowerer: OnnxLowerer, x: Var, values: Var) -> Var:
    """One value for each channel, shaped to compute with (N, C, …)."""
    return lowerer.mb.expand_dims(x=values, axes=[0, *range(2, x.rank)]) if x.rank > 2 else values


def _instance_norm(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    mb, (x, scale, offset) = lowerer.mb, inputs
    epsilon = float(attributes.get("epsilon", 1e-5))
    if x.rank in (3, 4) and scale.val is not None and offset.val is not None:
        how = {"gamma": scale, "beta": offset, "epsilon": number(lowerer, x, epsilon)}
        return [mb.instance_norm(x=x, name=lowerer.fresh_name(node), **how)]
    normalized, _, _ = _normalized(lowerer, x, list(range(2, x.rank)), epsilon)
    y = mb.mul(x=normalized, y=_by_channel(lowerer, x, scale))
    return [mb.add(x=y, y=_by_channel(lowerer, x, offset))]


def _batch_norm(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """As in use: while a model is trained it changes its statistics, which no artifact does."""
    mb, (x, scale, offset, mean, variance) = lowerer.mb, inputs[:5]
    if attributes.get("training_mode", 0) or len([name for name in node.output if name]) > 1:
        raise RuntimeError("it is in training mode: export the model after `model.eval()`")
    epsilon = number(lowerer, x, float(attributes.get("epsilon", 1e-5)))
    if x.rank in (3, 4, 5) and all(value.val is not None for value in inputs[1:5]):
        how = {"gamma": scale, "beta": offset, "mean": mean, "variance": variance, "epsilon": epsilon}
        return [mb.batch_norm(x=x, name=lowerer.fresh_name(node), **how)]
    factor = mb.real_div(x=scale, y=mb.sqrt(x=mb.add(x=variance, y=epsilon)))
    centred = mb.sub(x=x, y=_by_channel(lowerer, x, mean))
    return [mb.add(x=mb.mul(x=centred, y=_by_channel(lowerer, x, factor)), y=_by_channel(lowerer, x, offset))]


def _mean_variance(lowerer: OnnxLowerer, _node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """(x - mean) / deviation. ONNX's own definition has E[x²] - E[x]², which cancels in half precision."""
    x = inputs[0]
    axes = [int(axis) % x.rank for axis in attributes.get("axes") or (0, 2, 3)]
    return [_normalized(lowerer, x, axes, 1e-9)[0]]


def _group_norm(lowerer: OnnxLowerer, _node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Each group of channels by itself; scale and offset are of each channel, and before opset 21 of each group."""
    mb, (x, scale, offset) = lowerer.mb, inputs
    if not all(isinstance(size, int) for size in x.shape[1:]):
        raise RuntimeError("GroupNormalization needs fixed sizes behind the batch")
    groups, batch = int(attributes["num_groups"]), x.shape[0] if isinstance(x.shape[0], int) else -1
    grouped = mb.reshape(x=x, shape=[batch, groups, math.prod(x.shape[1:]) // groups])
    y, _, _ = _normalized(lowerer, grouped, [2], float(attributes.get("epsilon", 1e-5)))
    by_group = scale.shape[0] == groups and groups != x.shape[1]
    if by_group:
        y = mb.add(x=mb.mul(x=y, y=mb.expand_dims(x=scale, axes=[1])), y=mb.expand_dims(x=offset, axes=[1]))
    y = mb.reshape(x=y, shape=[batch, *x.shape[1:]])
    if by_group:
        return [y]
    return [mb.add(x=mb.mul(x=y, y=_by_channel(lowerer, x, scale)), y=_by_channel(lowerer, x, offset))]


def _local_response(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """X / (bias + alpha / size * sum of squares of neighbouring channels)^beta, on values divided by 16.

    The squares of values beyond 256 overflow half precision; 16² is put into alpha.
    """
    mb, x = lowerer.mb, inputs[0]
    size = int(attributes["size"])
    alpha, beta, bias = (float(attributes.get(k, v)) for k, v in {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}.items())
    before = (size - 1) // 2
    small = mb.mul(x=x, y=number(lowerer, x, 1 / 16))
    squares = mb.mul(x=small, y=small)
    pad = [0, 0, before, size - 1 - before, *[0, 0] * (x.rank - 2)]
    padded = mb.pad(x=squares, pad=pad, mode="constant", constant_val=number(lowerer, x, 0.0))
    total = None
    for place in range(size):
        begin = [0] * x.rank
        begin[1] = place
        part = mb.slice_by_size(x=padded, begin=begin, size=[-1, int(x.shape[1]), *[-1] * (x.rank - 2)])
        total = part if total is None else mb.add(x=total, y=part)
    scaled = mb.add(x=mb.mul(x=total, y=number(lowerer, x, alpha / size * 256)), y=number(lowerer, x, bias))
    return [mb.real_div(x=x, y=mb.pow(x=scaled, y=number(lowerer, x, beta)), name=lowerer.fresh_name(node))]


def _dropout(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:  # noqa: ARG001 - a Lowering
    """Nothing, with a mask of ones: it drops only while a model is trained."""
    import numpy as np

    x = inputs[0]
    if len(inputs) > 2 and inputs[2] is not None and (inputs[2].val is None or bool(inputs[2].val)):
        ratio = 0.5 if inputs[1] is None else float(np.asarray(constant(inputs[1], "the ratio")).ravel()[0])
        if ratio:
            raise RuntimeError("it is in training mode: export the model after `model.eval()`")
    y = lowerer.mb.identity(x=x, name=lowerer.fresh_name(node))
    if len(node.output) < 2 or not node.output[1]:
        return [y]
    if not is_fixed(x):
        raise RuntimeError("its mask needs fixed sizes")
    return [y, lowerer.mb.const(val=np.ones(x.shape, dtype=bool))]


def _blocks(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """DepthToSpace and SpaceToDepth, in five dimensions at most; the batch may be open."""
    mb, x, block = lowerer.mb, inputs[0], int(attributes["blocksize"])
    channels, height, width = x.shape[1:]
    if not all(isinstance(size, int) for size in (channels, height, width)):
        if node.op_type == "DepthToSpace" and attributes.get("mode") == "CRD":
            return [mb.pixel_shuffle(x=x, upscale_factor=block, name=lowerer.fresh_name(node))]
        raise RuntimeError("it needs fixed sizes of the picture")
    batch = x.shape[0] if isinstance(x.shape[0], int) else -1
    if node.op_type == "SpaceToDepth":
        gathered = _gathered(mb, x, block)
        if attributes.get("mode", "DCR") == "DCR":
            return [gathered]
        order = [place * channels + channel for channel in range(channels) for place in range(block**2)]
        return [mb.gather(x=gathered, indices=order, axis=1)]
    deep = channels // block**2
    if attributes.get("mode", "DCR") == "DCR":  # (b, deep) of the channels to (deep, b)
        x = mb.reshape(x=x, shape=[batch, block * block, deep, height * width])
        x = mb.reshape(x=mb.transpose(x=x, perm=[0, 2, 1, 3]), shape=[batch, channels, height, width])
    return [mb.pixel_shuffle(x=x, upscale_factor=block, name=lowerer.fresh_name(node))]


def _gathered(mb: Var, x: Var, block: int) -> Var:
    """Each block of places one after the other in the channels, first places, then channels."""
    height, width = x.shape[2:]
    parts = []
    for row in range(block):
        for column in range(block):
            parts.append(
                mb.slice_by_index(
                    x=x, begin=[0, 0, row, column], end=[0, 0, height, width], stride=[1, 1, block, block],
                    end_mask=[True, True, False, False],
                )
            )  # fmt: skip
    return mb.concat(values=parts, axis=1)


LINEAR: Mapping[str, Lowering] = {
    "BatchNormalization": _batch_norm,
    "DepthToSpace": _blocks,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_norm,
    "SpaceToDepth": _blocks,
}
"""By ONNX's name."""
