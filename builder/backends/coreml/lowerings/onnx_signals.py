"""ONNX operators of signals and pictures that ours of torch's share: Fourier transforms, windows put back, grids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.flexible_sizes import is_open
from builder.backends.coreml.lowerings.fourier import times, waves
from builder.backends.coreml.lowerings.indexed_pooling import max_pool_with_places, max_unpool
from builder.backends.coreml.lowerings.lowering import Builder, Var
from builder.backends.coreml.lowerings.onnx_elementwise import number
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Lowering, Node, OnnxLowerer
from builder.backends.coreml.lowerings.onnx_reduction import constant, integers
from builder.backends.coreml.lowerings.variables import as_float, fixed_shape, fixed_size, is_constant, slice_axis
from builder.backends.coreml.lowerings.volumes import grid_sampler
from builder.backends.coreml.lowerings.windows import col2im

if TYPE_CHECKING:
    import numpy as np


def _text(attributes: Attributes, name: str, otherwise: str) -> str:
    value = attributes.get(name, otherwise)
    return value.decode() if isinstance(value, bytes) else str(value)


def _cumprod(lowerer: OnnxLowerer, _: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Products of all up to each, by doubling: of the last k and the k before them."""
    import numpy as np

    mb, x = lowerer.mb, inputs[0]
    axis = int(np.ravel(constant(inputs[1], "the axis"))[0]) % x.rank
    length, reverse = fixed_size(x, axis, "CumProd"), bool(attributes.get("reverse", 0))
    x = mb.reverse(x=x, axes=[axis]) if reverse else mb.identity(x=x)
    if attributes.get("exclusive", 0):
        one = slice_axis(mb, x, axis, 0, 1)
        one = mb.add(x=mb.mul(x=one, y=number(lowerer, x, 0)), y=number(lowerer, x, 1))
        x = mb.concat(values=[one, slice_axis(mb, x, axis, 0, length - 1)], axis=axis) if length > 1 else one
    reach = 1
    while reach < length:
        both = mb.mul(x=slice_axis(mb, x, axis, reach, None), y=slice_axis(mb, x, axis, 0, length - reach))
        x = mb.concat(values=[slice_axis(mb, x, axis, 0, reach), both], axis=axis)
        reach *= 2
    return [mb.reverse(x=x, axes=[axis]) if reverse else x]


def _pair(mb: Builder, x: Var) -> tuple[Var, Var | None]:
    """The parts of an array whose last axis has real numbers, or real and imaginary ones."""
    parts = [mb.squeeze(x=slice_axis(mb, x, -1, i, i + 1), axes=[-1]) for i in range(int(x.shape[-1]))]
    return parts[0], parts[1] if len(parts) > 1 else None


def _dft(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """`sum of x e^(∓2πi kt / n)` along an axis; onesided: the first half, or backwards from it to real numbers."""
    mb, x = lowerer.mb, as_float(inputs[0])
    given = inputs[2] if len(inputs) > 2 else None
    axis = integers(given, "the axis")[0] if given is not None else int(attributes.get("axis", _dft_axis(lowerer)))
    axis %= x.rank
    inverse, onesided = bool(attributes.get("inverse", 0)), bool(attributes.get("onesided", 0))
    rows = fixed_size(x, axis, "DFT")
    length = integers(inputs[1], "the length")[0] if len(inputs) > 1 and inputs[1] is not None else None
    size = length or (2 * (rows - 1) if inverse and onesided else rows)
    kept = min(rows, size // 2 + 1 if inverse and onesided else size)
    real, imaginary = _pair(mb, slice_axis(mb, x, axis, 0, kept) if kept != rows else x)
    columns = size // 2 + 1 if onesided and not inverse else size
    cosines, sines = waves(size, kept, columns, 2 if inverse else 0)
    if inverse and onesided:
        import numpy as np

        twice = np.full((kept, 1), 2.0)
        twice[0] = 1
        if size % 2 == 0 and kept == size // 2 + 1:
            twice[-1] = 1
        cosines, sines = cosines * twice, sines * twice
    sines = -sines if not inverse else sines
    a_cos, a_sin = (times(mb, real, axis, wave) for wave in (cosines, sines))
    if imaginary is None:
        parts = [a_cos, a_sin]
    else:
        b_cos, b_sin = (times(mb, imaginary, axis, wave) for wave in (cosines, sines))
        parts = [mb.sub(x=a_cos, y=b_sin), mb.add(x=a_sin, y=b_cos)]
    if inverse and onesided:
        return [mb.expand_dims(x=parts[0], axes=[-1], name=lowerer.fresh_name(node))]
    return [mb.stack(values=parts, axis=real.rank, name=lowerer.fresh_name(node))]


def _dft_axis(lowerer: OnnxLowerer) -> int:
    return -2 if lowerer.opset >= 20 else 1


def _stft(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """Transforms of frames of a signal (N, L, 1) or (N, L): (N, frames, bins, 2)."""
    import numpy as np

    mb = lowerer.mb
    signal, step = as_float(inputs[0]), integers(inputs[1], "the frame step")[0]
    window = inputs[2] if len(inputs) > 2 else None
    given = inputs[3] if len(inputs) > 3 else None
    size = integers(given, "the frame length")[0] if given is not None else fixed_size(window, 0, "STFT")
    real, imaginary = _pair(mb, signal) if signal.rank > 2 else (signal, None)
    bins = size // 2 + 1 if attributes.get("onesided", 1) else size
    cosines, sines = waves(size, size, bins, 0)
    if is_open(real.shape):
        if imaginary is not None or not (window is None or is_constant(window)):
            raise RuntimeError("STFT over a flexible length takes real signals and a window that is a constant")
        kernels = np.concatenate([cosines, -sines], axis=1) * (1 if window is None else window.val[:, None])
        return [_stft_by_convolution(lowerer, node, real, kernels, step)]
    count = (fixed_size(real, 1, "STFT") - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)[None, :]
    batch = fixed_size(real, 0, "STFT")
    frames = []
    for part in (real, imaginary):
        if part is not None:
            frame = mb.gather(x=part, indices=places.ravel().astype(np.int32), axis=1)
            frame = mb.reshape(x=frame, shape=[batch, count, size])
            frames.append(frame if window is None else mb.mul(x=frame, y=window))
    parts = [times(mb, frames[0], 2, wave) for wave in (cosines, -sines)]
    if len(frames) > 1:
        more = [times(mb, frames[1], 2, wave) for wave in (sines, cosines)]
        parts = [mb.add(x=a, y=b) for a, b in zip(parts, more, strict=True)]
    return [mb.stack(values=parts, axis=3, name=lowerer.fresh_name(node))]


def _stft_by_convolution(lowerer: OnnxLowerer, node: Node, signal: Var, kernels: np.ndarray, step: int) -> Var:
    """The same of a signal (N, L) of any length; `kernels` are (size, 2 bins), real parts before imaginary ones."""
    import numpy as np

    mb = lowerer.mb
    weight = np.ascontiguousarray(kernels.T[:, None, :], dtype=np.float32)
    bands = mb.conv(x=mb.expand_dims(x=signal, axes=[1]), weight=weight, strides=[step], pad_type="valid")
    parts = mb.split(x=mb.transpose(x=bands, perm=[0, 2, 1]), num_splits=2, axis=2)
    return mb.stack(values=parts, axis=3, name=lowerer.fresh_name(node))


def _col2im(lowerer: OnnxLowerer, _: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    image, block = (integers(each, "a shape") for each in inputs[1:3])
    if len(image) != 2:
        raise RuntimeError("windows are put back into pictures alone, which have two axes")
    ones, zeros = [1, 1], [0, 0, 0, 0]
    dilations, strides = (list(attributes.get(name) or ones) for name in ("dilations", "strides"))
    pads = list(attributes.get("pads") or zeros)
    if pads[:2] != pads[2:]:
        raise RuntimeError("pads that differ at both ends are not converted")
    return [col2im(lowerer.mb, inputs[0], image, block, dilations, pads[:2], strides)]


def pooled_with_places(lowerer: OnnxLowerer, inputs: Inputs, attributes: Attributes) -> list[Var]:
    """The maxima, and where each was, counted through the whole array."""
    import numpy as np

    mb, x = lowerer.mb, inputs[0]
    kernel = [int(k) for k in attributes["kernel_shape"]]
    count = len(kernel)
    pads = [int(p) for p in attributes.get("pads") or [0] * 2 * count]
    auto = _text(attributes, "auto_pad", "NOTSET")
    if pads[:count] != pads[count:] or auto not in ("NOTSET", "VALID", "") or attributes.get("storage_order", 0):
        raise RuntimeError("the indices of a pooling with uneven padding, or by columns, are not converted")
    one = [1] * count
    strides, dilations = ([int(s) for s in attributes.get(name) or one] for name in ("strides", "dilations"))
    ceil = bool(attributes.get("ceil_mode", 0))
    values, places = max_pool_with_places(count, mb, x, kernel, strides, pads[:count], dilations, ceil)
    sizes = fixed_shape(x, "a pooling with indices")
    begin = np.arange(sizes[0] * sizes[1]).reshape(sizes[0], sizes[1], *one) * math.prod(sizes[2:])
    return [values, mb.add(x=places, y=begin.astype(np.int32))]


def _max_unpool(lowerer: OnnxLowerer, _: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    mb, (x, places) = lowerer.mb, inputs[:2]
    kernel = [int(k) for k in attributes["kernel_shape"]]
    count, sizes = len(kernel), fixed_shape(x, "MaxUnpool")
    strides = [int(s) for s in attributes.get("strides") or [1] * count]
    pads = [int(p) for p in attributes.get("pads") or [0] * 2 * count]
    own = [(size - 1) * step - pads[i] - pads[i + count] + k
           for i, (size, step, k) in enumerate(zip(sizes[2:], strides, kernel, strict=True))]  # fmt: skip
    given = inputs[2] if len(inputs) > 2 else None
    wanted = integers(given, "the output's shape") if given is not None else [*sizes[:2], *own]
    return [max_unpool(x.rank, mb, x, places, wanted)]  # places count through the whole output, as in onnxruntime


def _grid_sample(lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    mb, (x, grid) = lowerer.mb, inputs
    mode = {"linear": "bilinear"}.get(given := _text(attributes, "mode", "bilinear"), given)
    padding, corners = _text(attributes, "padding_mode", "zeros"), bool(attributes.get("align_corners", 0))
    if mode not in ("bilinear", "nearest"):
        raise RuntimeError("Core ML resamples bilinearly and by the nearest only")
    if x.rank == 5 or mode == "nearest":
        modes = ({"bilinear": 0, "nearest": 1}[mode], {"zeros": 0, "border": 1, "reflection": 2}[padding])
        return [grid_sampler(mb, x, grid, *modes, corners)]
    names = {"zeros": "constant", "border": "border", "reflection": "reflection" if corners else "symmetric"}
    return [
        mb.resample(
            x=x,
            coordinates=grid,
            sampling_mode=mode,
            padding_mode=names[padding],
            padding_value=number(lowerer, x, 0.0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=corners,
            name=lowerer.fresh_name(node),
        )
    ]


SIGNALS: Mapping[str, Lowering] = {
    "Col2Im": _col2im,
    "CumProd": _cumprod,
    "DFT": _dft,
    "GridSample": _grid_sample,
    "MaxUnpool": _max_unpool,
    "STFT": _stft,
}
"""By ONNX's name."""
