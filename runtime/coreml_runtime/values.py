"""Values across the border of a model: checks and converts what a caller passes, and what a caller gets back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from coreml_runtime.errors import InputError, PredictionError
from coreml_runtime.features import (
    ArrayFeature,
    DictionaryFeature,
    Feature,
    ImageFeature,
    ScalarFeature,
    SequenceFeature,
)

_ARRAY_DTYPES = {
    "fp32": torch.float32, "fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16, "bool": torch.bool,
    "int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "uint8": torch.uint8,
    "complex64": torch.complex64,
}  # fmt: skip
_WIDER_DTYPES = {"uint16": (torch.int32, 0xFFFF), "uint32": (torch.int64, 0xFFFF_FFFF)}
"""Unsigned types that a wider one holds, with their largest value."""
_NUMPY_DTYPES = {
    "fp32": np.float32, "fp64": np.float64, "fp16": np.float32, "bf16": np.float32, "bool": np.bool_, "int8": np.int8,
    "int16": np.int16, "int32": np.int32, "int64": np.int64, "uint8": np.uint8, "uint16": np.uint16,
    "uint32": np.uint32, "complex64": np.complex64,
}  # fmt: skip
_IMAGE_MODES = {
    "RGB": ("RGB", "RGBA"),
    "BGR": ("RGB", "RGBA"),
    "GRAYSCALE": ("L",),
    "GRAYSCALE_FLOAT16": ("F",),
}
Allows = Callable[[ArrayFeature, tuple[int, ...]], bool]


def check_inputs(
    features: Mapping[str, Feature], given: Mapping[str, object], *, allows: Allows = ArrayFeature.allows
) -> dict[str, object]:
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
    checked: dict[str, object] = {}
    for name, feature in features.items():
        if name in given and given[name] is not None:
            checked[name] = _check(feature, given[name], allows)
        elif not feature.optional:
            raise InputError(f"input {name!r} is None")
        elif isinstance(feature, ArrayFeature) and feature.default is not None:
            checked[name] = torch.full(feature.shape, feature.default, dtype=array_dtype(feature))
    return checked


def _check(feature: Feature, value: object, allows: Allows) -> Any:
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


def _check_scalar(feature: ScalarFeature, value: object) -> Any:
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) and value.size in (1, torch.Size([1]), torch.Size([])):
        value = value.item()
    expected: tuple[type, ...] = {"int64": (int,), "double": (int, float), "string": (str,)}[feature.kind]
    if not isinstance(value, expected):
        raise InputError(f"input {feature.name!r}: {feature.kind} is expected, got {type(value).__name__}")
    return value


def _check_array(feature: ArrayFeature, value: object, allows: Allows) -> torch.Tensor:
    tensor = _as_tensor(feature, value)
    shape = tuple(tensor.shape) or (1,)
    if not allows(feature, shape):
        raise InputError(f"input {feature.name!r}: the shape is {shape}, the model expects {feature.expected()}")
    target = array_dtype(feature)
    shape = () if feature.scalar else shape
    if tensor.dtype == target and feature.dtype not in _WIDER_DTYPES:
        return tensor.reshape(shape)
    if not target.is_floating_point and not target.is_complex:
        _check_integers(feature, tensor, *_limits(feature, target))
    return tensor.reshape(shape).to(target)


def array_dtype(feature: ArrayFeature) -> torch.dtype:
    """The torch type that an array of this feature is passed in."""
    return _WIDER_DTYPES[feature.dtype][0] if feature.dtype in _WIDER_DTYPES else _ARRAY_DTYPES[feature.dtype]


def _limits(feature: ArrayFeature, target: torch.dtype) -> tuple[int, int]:
    if feature.dtype in _WIDER_DTYPES:
        return 0, _WIDER_DTYPES[feature.dtype][1]
    if target is torch.bool:
        return 0, 1
    return torch.iinfo(target).min, torch.iinfo(target).max


def _check_integers(feature: ArrayFeature, tensor: torch.Tensor, low: int, high: int) -> None:
    """Refuse what the declared integer type cannot hold: fractions, and values that would wrap around."""
    if tensor.dtype is torch.bool:
        return
    if tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
        raise InputError(f"input {feature.name!r}: {feature.dtype} is expected, got {tensor.dtype} with fractions")
    if tensor.numel() and not low <= tensor.min().item() <= tensor.max().item() <= high:
        raise InputError(
            f"input {feature.name!r}: {feature.dtype} is expected, got values of {tensor.min().item():.6g} to "
            f"{tensor.max().item():.6g}"
        )


def _as_tensor(feature: ArrayFeature, value: object) -> torch.Tensor:
    try:
        if isinstance(value, torch.Tensor):
            if (
                value.layout is not torch.strided
                or value.is_meta
                or value.is_quantized
                or (value.is_complex() and not feature.dtype.startswith("complex"))
            ):
                raise TypeError(f"a tensor of {value.dtype} ({value.layout}, on {value.device.type})")
            return value.detach().cpu()
        array = np.asarray(value)
        if array.dtype.kind not in ("biufc" if feature.dtype.startswith("complex") else "biuf"):
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


def encode_outputs(features: Mapping[str, Feature], values: Mapping[str, object]) -> dict[str, object]:
    """What a caller gets: images as PIL, arrays as numpy (fp16 as float32, rank 0 as (1,)), labels as they are."""
    return {name: _encode(features[name], value) for name, value in values.items() if name in features}


def _encode(feature: Feature, value: Any) -> Any:
    if isinstance(feature, ImageFeature):
        return encode_image(feature, value)
    if isinstance(feature, ArrayFeature):
        if not isinstance(value, torch.Tensor):
            raise PredictionError(f"output {feature.name!r} is declared as an array, got {type(value).__name__}")
        array: np.ndarray = to_numpy(value).astype(_NUMPY_DTYPES[feature.dtype], copy=False)
        return array.reshape(()) if feature.scalar else array
    if isinstance(feature, ScalarFeature) and isinstance(value, torch.Tensor):
        return value.reshape(-1)[0].item()
    if isinstance(feature, SequenceFeature) and isinstance(value, torch.Tensor):
        return value.reshape(-1).tolist()
    return value


def to_numpy(value: torch.Tensor) -> np.ndarray:
    """A tensor as a numpy array that owns its memory; rank 0 becomes shape (1,), as Core ML returns it."""
    array: np.ndarray = value.detach().contiguous().numpy()
    return array.reshape(1) if array.ndim == 0 else array


def numpy_dtype(feature: ArrayFeature) -> np.dtype:
    """The numpy type of an array of this feature; half precision is float32, as it comes out."""
    return np.dtype(_NUMPY_DTYPES[feature.dtype])
