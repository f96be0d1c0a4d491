"""Convolution and pooling of ONNX, with the padding, dilation and rounding up that MIL does not have by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial

from builder.backends.coreml.lowerings.lowering import Size, Var
from builder.backends.coreml.lowerings.onnx_elementwise import is_float, number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_shape import is_fixed
from builder.backends.coreml.lowerings.onnx_signals import pooled_with_places


def _pads(x: Var, kernel: Sequence[int], attributes: Attributes) -> list[tuple[int, int]]:
    """What is added before and after each spatial axis, as `auto_pad` or `pads` say."""
    count = len(kernel)
    strides = attributes.get("strides") or [1] * count
    dilations = attributes.get("dilations") or [1] * count
    way = attributes.get("auto_pad", "NOTSET")
    if way in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            if not isinstance(size, int) and stride > 1:
                raise RuntimeError(f"auto_pad {way} of this operator needs fixed sizes")
            total = (k - 1) * dilation  # with a stride of 1 for every size
            if stride > 1:
                total = max(0, (math.ceil(size / stride) - 1) * stride + total + 1 - size)
            small, large = total // 2, total - total // 2
            found.append((small, large) if way == "SAME_UPPER" else (large, small))
        return found
    if way == "VALID":
        return [(0, 0)] * count
    pads = attributes.get("pads") or [0] * 2 * count
    return list(zip(pads[:count], pads[count:], strict=True))


def _flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    return [int(amount) for pair in pads for amount in pair]


def _window(x: Var, kernel: Sequence[int], attributes: Attributes) -> dict[str, object]:
    """Strides, dilations and padding as MIL takes them."""
    count, way = len(kernel), _left_to_core_ml(x, attributes)
    pads = [] if way else _flat(_pads(x, kernel, attributes))
    is_given = not way and bool(any(pads) or attributes.get("pads"))
    return {  # in an order on which the bytes of artifacts depend
        "strides": [int(s) for s in attributes.get("strides") or [1] * count],
        "pad_type": way or ("custom" if any(pads) else "valid"),
        "dilations": [int(d) for d in attributes.get("dilations") or [1] * count],
        "groups": int(attributes.get("group", 1)),
        **({"pad": pads} if is_given else {}),
    }


def _left_to_core_ml(x: Var, attributes: Attributes) -> str:
    """Core ML's name of a padding that depends on sizes which the app decides; empty where the amounts are known."""
    way = attributes.get("auto_pad", "NOTSET")
    strides = attributes.get("strides") or [1] * (x.rank - 2)
    known = all(isinstance(size, int) or stride == 1 for size, stride in zip(x.shape[2:], strides, strict=True))
    return "" if known else {"SAME_UPPER": "same", "SAME_LOWER": "same_lower"}.get(way, "")


def _convolution(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    x, weight, bias = [*inputs, None][:3]
    if x.rank < 3 or x.rank > 5:
        raise RuntimeError(f"Core ML convolves arrays of 3 to 5 dimensions, and this has {x.rank}")
    how = _window(x, weight.shape[2:], attributes)
    constant = bias is not None and bias.val is not None and weight.val is not None
    if constant:
        how["bias"] = bias
    result = lowerer.mb.conv(x=x, weight=weight, name=lowerer.fresh_name(node), **how)
    return [result if bias is None or constant else _biased(lowerer, result, bias)]


def _biased(lowerer: OnnxLowerer, x: Var, bias: Var) -> Var:
    """Added along the channels."""
    return lowerer.mb.add(x=x, y=lowerer.mb.expand_dims(x=bias, axes=[0, *range(2, x.rank)]))


def _transposed(lowerer: OnnxLowerer, _node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Without padding, and then cut: `pads`, `output_padding`, `output_shape` and `auto_pad` all say where."""
    mb = lowerer.mb
    x, weight, bias = [*inputs, None][:3]
    kernel, count = weight.shape[2:], x.rank - 2
    strides = [int(s) for s in attributes.get("strides") or [1] * count]
    dilations = [int(d) for d in attributes.get("dilations") or [1] * count]
    full = [
        (size - 1) * s + (k - 1) * d + 1 for size, s, k, d in zip(x.shape[2:], strides, kernel, dilations, strict=True)
    ]
    begins, afters = _cut(x, full, strides, attributes)
    groups = int(attributes.get("group", 1))
    result = mb.conv_transpose(
        x=x, weight=weight, strides=strides, dilations=dilations, groups=groups, pad_type="valid"
    )
    if any(after < 0 for after in afters):
        pad = [0, 0, 0, 0, *(amount for after in afters for amount in (0, max(0, -after)))]
        result = mb.pad(x=result, pad=pad, mode="constant", constant_val=number(lowerer, x, 0.0))
    if any(begins) or any(after > 0 for after in afters):
        ends = [max(0, after) for after in afters]
        result = mb.slice_by_index(
            x=result, begin=[0, 0, *begins], end=[0, 0, *(-end for end in ends)],
            end_mask=[True, True, *(end == 0 for end in ends)],
        )  # fmt: skip
    return [result if bias is None else _biased(lowerer, result, bias)]


def _cut(x: Var, full: list[Size], strides: list[int], attributes: Attributes) -> tuple[list[int], list[int]]:
    """How much of the full result goes before and after each axis, by the formulas of ONNX's ConvTranspose.

    Less than 0 after it is what is missing. Raises RuntimeError where that depends on a size which the app decides.
    """
    count = len(full)
    extra = [int(e) for e in attributes.get("output_padding") or [0] * count]
    way, wanted = attributes.get("auto_pad", "NOTSET"), attributes.get("output_shape")
    if wanted is None and way in ("SAME_UPPER", "SAME_LOWER"):
        same = zip(x.shape[2:], strides, full, strict=True)
        # where the kernel is less than the stride nothing is added, as onnxruntime has it
        wanted = [size * stride - max(0, int(size * stride - length)) for size, stride, length in same]
    if wanted is None:
        pads = [int(pad) for pad in attributes.get("pads") or [0] * 2 * count]
        return pads[:count], [after - e for after, e in zip(pads[count:], extra, strict=True)]
    begins, afters = [], []
    for length, size, e in zip(full, list(wanted)[-count:], extra, strict=True):
        difference = length - size
        if not getattr(difference, "is_number", True):
            raise RuntimeError("output_shape of a transposed convolution needs fixed sizes")
        total = max(0, int(difference) + e)
        begins.append(total // 2 if way == "SAME_UPPER" else total - total // 2)
        afters.append(int(difference) - begins[-1])
    return begins, afters


def _pooled(kind: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Padded and cut into windows by hand where MIL's pooling lacks something: dilations, or rounding up."""
    if len([name for name in node.output if name]) > 1:
        return pooled_with_places(lowerer, inputs, attributes)
    x, kernel = inputs[0], [int(k) for k in attributes["kernel_shape"]]
    strides = [int(s) for s in attributes.get("strides") or [1] * len(kernel)]
    dilations = [int(d) for d in attributes.get("dilations") or [1] * len(kernel)]
    if not is_float(lowerer, x):
        raise RuntimeError("Core ML pools floats, and this is an array of integers")
    if not is_fixed(x) and (own := _pooled_open(kind, lowerer, node, x, attributes)) is not None:
        return [own]
    pads = _pads(x, kernel, attributes)
    if attributes.get("ceil_mode", 0) and attributes.get("auto_pad", "NOTSET") in ("NOTSET", ""):
        pads = [
            (before, after + _rest(size, before + after, k, s, d, before))
            for (before, after), size, k, s, d in zip(pads, x.shape[2:], kernel, strides, dilations, strict=True)
        ]
    simple = set(dilations) == {1} and len(kernel) < 4
    if kind == "max" and simple and all(max(p) < k for p, k in zip(pads, kernel, strict=True)):
        return [
            lowerer.mb.max_pool(
                x=x, kernel_sizes=kernel, strides=strides, pad_type="custom", pad=_flat(pads),
                name=lowerer.fresh_name(node),
            )
        ]  # fmt: skip
    plain = attributes.get("pads") or [0] * 2 * len(kernel)
    if kind == "avg" and simple and not attributes.get("ceil_mode", 0) and (not any(plain) or len(set(plain)) == 1):
        counted = bool(attributes.get("count_include_pad", 0))
        return [
            lowerer.mb.avg_pool(
                x=x, kernel_sizes=kernel, strides=strides, pad_type="custom", pad=_flat(pads),
                exclude_padding_from_average=not counted, name=lowerer.fresh_name(node),
            )
        ]  # fmt: skip
    if not is_fixed(x):
        raise RuntimeError("pooling with dilations or rounding up needs fixed sizes")
    return [_by_hand(kind, lowerer, x, kernel, strides, dilations, pads, attributes)]


def _pooled_open(kind: str, lowerer: OnnxLowerer, node: Node, x: Var, attributes: Attributes) -> Var | None:
    """What Core ML's own pools do where the app decides sizes: padding that follows from them, and rounding up."""
    kernel = [int(k) for k in attributes["kernel_shape"]]
    way, rounds_up = _left_to_core_ml(x, attributes), bool(attributes.get("ceil_mode", 0))
    rounds_up = rounds_up and attributes.get("auto_pad", "NOTSET") in ("NOTSET", "")
    given = attributes.get("pads") or [0] * 2 * len(kernel)
    counted = bool(attributes.get("count_include_pad", 0))
    if set(attributes.get("dilations") or [1]) != {1} or kind == "lp" or not (way or rounds_up):
        return None
    if rounds_up and (len(kernel) != 2 or any(2 * pad > k for pad, k in zip(given, kernel * 2, strict=True))):
        return None
    if rounds_up and given[: len(kernel)] != given[len(kernel) :]:
        raise RuntimeError("ceil_mode with other padding before than after needs fixed sizes")
    if rounds_up and kind == "avg" and counted and any(given):
        raise RuntimeError("ceil_mode with count_include_pad needs fixed sizes")
    pads = [int(given[i]) for axis in range(len(kernel)) for i in (axis, axis + len(kernel))]
    how = {
        "kernel_sizes": kernel,
        "strides": [int(s) for s in attributes.get("strides") or [1] * len(kernel)],
        "name": lowerer.fresh_name(node),
        **({"pad_type": way} if way else {"pad_type": "custom", "pad": pads, "ceil_mode": True}),
    }
    if kind == "max":
        return lowerer.mb.max_pool(x=x, **how)
    return lowerer.mb.avg_pool(x=x, exclude_padding_from_average=not counted, **how)


def _rest(size: Size, padding: int, kernel: int, stride: int, dilation: int, before: int) -> int:
    """What is missing at the end for one more window, of which at least one place is not a padding."""
    if not isinstance(size, int):
        raise RuntimeError("ceil_mode needs fixed sizes")
    span = size + padding - (kernel - 1) * dilation - 1
    windows = -(-span // stride) + 1
    if (windows - 1) * stride >= size + before:
        windows -= 1
    return max(0, (windows - 1) * stride - span)


def _by_hand(
    kind: str,
    lowerer: OnnxLowerer,
    x: Var,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[tuple[int, int]],
    attributes: Attributes,
) -> Var:
    """One axis after the other: windows of a maximum, of a sum of powers, or of an average are separable."""
    import numpy as np

    mb = lowerer.mb
    if kind == "lp":
        return _powers(lowerer, x, kernel, strides, dilations, pads, attributes)
    lowest = number(lowerer, x, -np.inf if kind == "max" else 0.0)
    inside = np.ones(x.shape[2:], dtype=np.float64)
    counted = _pads(x, kernel, attributes) if attributes.get("count_include_pad", 0) else [(0, 0)] * len(kernel)
    windows = zip(kernel, strides, dilations, pads, counted, strict=True)
    for axis, (k, s, d, pair, given) in enumerate(windows, start=2):
        x, inside = _slid(kind, lowerer, x, inside, axis, (k, s, d), pair, given, lowest)
    if kind == "avg":
        return mb.real_div(x=x, y=inside.astype(lowerer.types.nptype_from_builtin(x.dtype)))
    return x


def _powers(
    lowerer: OnnxLowerer,
    x: Var,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[tuple[int, int]],
    attributes: Attributes,
) -> Var:
    """(sum of |x|^p)^(1/p) of each window, of values divided by its largest: powers may be beyond half precision."""
    mb, power = lowerer.mb, number(lowerer, x, float(attributes.get("p", 2)))
    x = mb.abs(x=x)
    largest = _by_hand("max", lowerer, x, kernel, strides, dilations, pads, attributes)
    divisor = mb.maximum(x=largest, y=number(lowerer, x, 1e-4))  # for windows of zeros
    pad = [0, 0, 0, 0, *_flat(pads)]
    padded = mb.pad(x=x, pad=pad, mode="constant", constant_val=number(lowerer, x, 0.0)) if any(pad) else x
    total = None
    for places in itertools.product(*map(range, kernel)):
        begin = [0, 0, *(place * d for place, d in zip(places, dilations, strict=True))]
        ends = [b + (n - 1) * s + 1 for b, n, s in zip(begin[2:], largest.shape[2:], strides, strict=True)]
        mask = [True, True, *[False] * len(kernel)]
        part = mb.slice_by_index(x=padded, begin=begin, end=[0, 0, *ends], stride=[1, 1, *strides], end_mask=mask)
        raised = mb.pow(x=mb.real_div(x=part, y=divisor), y=power)
        total = raised if total is None else mb.add(x=total, y=raised)
    root = number(lowerer, x, 1 / float(attributes.get("p", 2)))
    return mb.mul(x=mb.pow(x=total, y=root), y=divisor)


def _scaled_powers(lowerer: OnnxLowerer, x: Var, power: float) -> tuple[Var, Var]:
    """(|x| / largest)^p and the largest of each channel: powers themselves may be beyond half precision."""
    mb = lowerer.mb
    largest = mb.reduce_max(x=mb.abs(x=x), axes=list(range(2, x.rank)), keep_dims=True)
    empty = mb.equal(x=largest, y=number(lowerer, x, 0.0))
    divisor = mb.select(cond=empty, a=number(lowerer, x, 1.0), b=largest)
    return mb.pow(x=mb.abs(x=mb.real_div(x=x, y=divisor)), y=number(lowerer, x, power)), largest


def _slid(
    kind: str,
    lowerer: OnnxLowerer,
    x: Var,
    inside: Var,
    axis: int,
    window: tuple[int, int, int],
    pair: tuple[int, int],
    counted: tuple[int, int],
    lowest: Var,
) -> tuple[Var, Var]:
    """Combine the places of a window along one axis; `inside` counts those that are not padding, in the same way."""
    import numpy as np

    mb, (kernel, stride, dilation) = lowerer.mb, window
    pad = [0, 0] * axis + list(pair) + [0, 0] * (x.rank - axis - 1)
    padded = mb.pad(x=x, pad=pad, mode="constant", constant_val=lowest) if any(pair) else x
    # a padded place counts as often as any other of its line: windows of other axes were counted before
    ones = np.pad(inside, [counted if i == axis - 2 else (0, 0) for i in range(inside.ndim)], mode="edge")
    rest = (pair[0] - counted[0], pair[1] - counted[1])
    ones = np.pad(ones, [rest if i == axis - 2 else (0, 0) for i in range(inside.ndim)])
    length = padded.shape[axis]
    count = (length - (kernel - 1) * dilation - 1) // stride + 1
    combined: Var = None
    total: Var = 0.0
    for place in range(kernel):
        begin = [0] * x.rank
        begin[axis] = place * dilation
        end = list(padded.shape)
        end[axis] = place * dilation + (count - 1) * stride + 1
        steps = [stride if i == axis else 1 for i in range(x.rank)]
        part = mb.slice_by_index(x=padded, begin=begin, end=end, stride=steps)
        taken = np.arange(place * dilation, end[axis], stride)
        total = total + ones.take(taken, axis=axis - 2)
        join = mb.maximum if kind == "max" else mb.add
        combined = part if combined is None else join(x=combined, y=part)
    return combined, total


def _global(kind: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    mb, x = lowerer.mb, inputs[0]
    axes = list(range(2, x.rank))
    if kind != "lp":
        operator = mb.reduce_max if kind == "max" else mb.reduce_mean
        return [operator(x=x, axes=axes, keep_dims=True, name=lowerer.fresh_name(node))]
    power = float(attributes.get("p", 2))
    powers, largest = _scaled_powers(lowerer, x, power)
    root = mb.pow(x=mb.reduce_sum(x=powers, axes=axes, keep_dims=True), y=number(lowerer, x, 1 / power))
    return [mb.mul(x=root, y=largest, name=lowerer.fresh_name(node))]


WINDOWS: Mapping[str, Lowering] = {
    "AveragePool": partial(_pooled, "avg"),
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "GlobalAveragePool": partial(_global, "avg"),
    "GlobalLpPool": partial(_global, "lp"),
    "GlobalMaxPool": partial(_global, "max"),
    "LpPool": partial(_pooled, "lp"),
    "MaxPool": partial(_pooled, "max"),
}
"""By ONNX's name."""
