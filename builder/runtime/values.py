"""Values across the border of a model: checks and converts what a caller passes, and what a caller gets back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from builder.runtime.errors import InputError, PredictionError
from builder.runtime.features import (
    ArrayFeature,
    DictionaryFeature,
    Feature,
    ImageFeature,
    ScalarFeature,
    SequenceFeature,
)

_ARRAY_DTYPES = {
    "fp32": torch.float32, "fp64": torch.float64, "int32": torch.int32, "int8": torch.int8, "fp16": torch.float16,
}  # fmt: skip
_NUMPY_DTYPES = {"fp32": np.float32, "fp64": np.float64, "int32": np.int32, "int8": np.int8, "fp16": np.float32}
_IMAGE_MODES = {
    "RGB": ("RGB", "RGBA"),
    "BGR": ("RGB", "RGBA"),
    "GRAYSCALE": ("L",),
    "GRAYSCALE_FLOAT16": ("F",),
}
Allows = Callable[[ArrayFeature, tuple[int, ...]], bool]


def check_inputs(
    features: Mapping[str, Feature], given: Mapping[str, Any], *, allows: Allows = ArrayFeature.allows
) -> dict[str, Any]:
    """Check `given` against what the model declares: arrays become tensors, images tensors (1, C, H, W) of 0 to 255.

    An optional array that is not given takes its default; without a default it is left out. Everything wrong is an
    InputError that says what was expected. `allows` replaces the rule for array shapes.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"inputs are given as a dictionary by name, got {type(given).__name__}")
    unknown = sorted(str(name) for name in given if name not in features)
    missing = sorted(name for name, feature in features.items() if name not in given and not feature.optional)
    if unknown or missing:
        problems = [
            f"{kind}: {', '.join(names)}" for kind, names in (("unknown", unknown), ("missing", missing)) if names
        ]
        raise InputError(f"wrong inputs ({'; '.join(problems)}); the model takes {', '.join(features) or 'none'}")
    checked: dict[str, Any] = {}
    for name, feature in features.items():
        if name in given and given[name] is not None:
            checked[name] = _check(feature, given[name], allows)
        elif not feature.optional:
            raise InputError(f"input {name!r} is None")
        elif isinstance(feature, ArrayFeature) and feature.default is not None:
            checked[name] = torch.full(feature.shape, feature.default, dtype=_ARRAY_DTYPES[feature.dtype])
    return checked


def _check(feature: Feature, value: Any, allows: Allows) -> Any:
    if isinstance(feature, ImageFeature):
        return decode_image(feature, value)
    if isinstance(feature, ArrayFeature):
        return _check_array(feature, value, allows)
    if isinstance(feature, ScalarFeature):
        return _check_scalar(feature, value)
    if isinstance(feature, DictionaryFeature):
        if not isinstance(value, Mapping):
            raise InputError(f"input {feature.name!r}: a dictionary is expected, got {type(value).__name__}")
        return dict(value)
    if not isinstance(value, (list, tuple)):
        raise InputError(f"input {feature.name!r}: a list is expected, got {type(value).__name__}")
    return list(value)


def _check_scalar(feature: ScalarFeature, value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) and value.size in (1, torch.Size([1]), torch.Size([])):
        value = value.item()
    expected: tuple[type, ...] = {"int64": (int,), "double": (int, float), "string": (str,)}[feature.kind]
    if not isinstance(value, expected):
        raise InputError(f"input {feature.name!r}: {feature.kind} is expected, got {type(value).__name__}")
    return value


def _check_array(feature: ArrayFeature, value: Any, allows: Allows) -> torch.Tensor:
    tensor = _as_tensor(feature, value)
    shape = tuple(tensor.shape) or (1,)
    if not allows(feature, shape):
        raise InputError(f"input {feature.name!r}: the shape is {shape}, the model expects {feature.expected()}")
    target = _ARRAY_DTYPES[feature.dtype]
    if tensor.dtype == target:
        return tensor.reshape(shape)
    if not target.is_floating_point:
        _check_integers(feature, tensor, torch.iinfo(target))
    return tensor.reshape(shape).to(target)


def _check_integers(feature: ArrayFeature, tensor: torch.Tensor, limits: torch.iinfo) -> None:
    """Refuse what the declared integer type cannot hold: fractions, and values that would wrap around."""
    if tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
        raise InputError(f"input {feature.name!r}: {feature.dtype} is expected, got {tensor.dtype} with fractions")
    if tensor.numel() and not limits.min <= tensor.min().item() <= tensor.max().item() <= limits.max:
        raise InputError(
            f"input {feature.name!r}: {feature.dtype} is expected, got values of {tensor.min().item():.6g} to "
            f"{tensor.max().item():.6g}"
        )


def _as_tensor(feature: ArrayFeature, value: Any) -> torch.Tensor:
    try:
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.is_complex():
                raise TypeError(f"a tensor of {value.dtype} ({value.layout}, on {value.device.type})")
            return value.detach().cpu()
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"an array of {array.dtype}")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        if not array.flags.writeable or any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
            array = np.array(array, dtype=array.dtype.newbyteorder("="))
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"input {feature.name!r}: {feature.dtype} of shape {feature.expected()} is expected, got {error}"
        ) from error


def decode_image(feature: ImageFeature, value: Any) -> torch.Tensor:
    """A PIL image as a tensor (1, C, H, W) float32 of 0 to 255, channels in the order that the model declares."""
    mode, size = getattr(value, "mode", None), getattr(value, "size", None)
    modes = _IMAGE_MODES[feature.color]
    if mode is None or not isinstance(size, tuple):
        raise InputError(f"input {feature.name!r}: a PIL image is expected, got {type(value).__name__}")
    if mode not in modes:
        raise InputError(
            f"input {feature.name!r}: an image of mode {' or '.join(modes)} is expected ({feature.color}), got {mode}; "
            f"image.convert({modes[0]!r}) makes one"
        )
    if not feature.allows(*size):
        raise InputError(
            f"input {feature.name!r}: the image is {size[0]} x {size[1]} (width x height), "
            f"the model expects {feature.expected()}"
        )
    pixels = torch.from_numpy(np.array(value.convert("RGB") if mode == "RGBA" else value, dtype=np.float32))
    if pixels.dim() == 2:
        return pixels[None, None]
    planes = pixels.permute(2, 0, 1)
    return (planes.flip(0) if feature.color == "BGR" else planes)[None].contiguous()


def encode_image(feature: ImageFeature, value: torch.Tensor) -> Any:
    """A tensor (…, C, H, W) of 0 to 255 as a PIL image: rounded and clamped; 16-bit grey becomes mode F as it is."""
    from PIL import Image

    planes = value.detach().to(torch.float32).reshape(value.shape[-3:])
    if feature.color == "GRAYSCALE_FLOAT16":
        return Image.fromarray(planes[0].numpy())
    pixels = planes.round().clamp(0, 255).to(torch.uint8)
    if feature.color == "GRAYSCALE":
        return Image.fromarray(pixels[0].numpy())
    ordered = pixels.flip(0) if feature.color == "BGR" else pixels
    return Image.fromarray(ordered.permute(1, 2, 0).contiguous().numpy())


def encode_outputs(features: Mapping[str, Feature], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a caller gets: images as PIL, arrays as numpy (fp16 as float32, rank 0 as (1,)), labels as they are."""
    return {name: _encode(features[name], value) for name, value in values.items() if name in features}


def _encode(feature: Feature, value: Any) -> Any:
    if isinstance(feature, ImageFeature):
        return encode_image(feature, value)
    if isinstance(feature, ArrayFeature):
        if not isinstance(value, torch.Tensor):
            raise PredictionError(f"output {feature.name!r} is declared as an array, got {type(value).__name__}")
        return to_numpy(value).astype(_NUMPY_DTYPES[feature.dtype], copy=False)
    if isinstance(feature, ScalarFeature) and isinstance(value, torch.Tensor):
        return value.reshape(-1)[0].item()
    if isinstance(feature, SequenceFeature) and isinstance(value, torch.Tensor):
        return value.reshape(-1).tolist()
    return value


def to_numpy(value: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor as a numpy array that owns its memory; rank 0 becomes shape (1,), as Core ML returns it."""
    array: np.ndarray[Any, Any] = value.detach().contiguous().numpy()
    return array.reshape(1) if array.ndim == 0 else array
