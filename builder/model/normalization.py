"""Image normalisation as `scale * level + bias` for each channel, on levels of 0 to 255."""

from __future__ import annotations

from dataclasses import dataclass

from builder.artifacts.stages import Preprocessing
from builder.errors import SourceError
from builder.spec.inputs import ImageInput, PerChannel
from builder.spec.outputs import ImageOutput


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """`y[c] = scale[c] * x[c] + bias[c]` with x in levels of 0 to 255, channels in the model's order."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    mean: tuple[float, ...] | None = None
    """What it was derived from, if it was: mean and std in levels of 0 to 1."""
    std: tuple[float, ...] | None = None


def resolve_normalization(name: str, given: ImageInput, preprocessing: Preprocessing | None) -> Normalization:
    """Return the coefficients that `given` asks for.

    `(x/255 - mean)/std` is `x * 1/(255*std) - mean/std`, computed here in double precision.
    Raises SourceError when it says `from_weights` and the weights publish nothing, or another number of channels.
    """
    channels = 1 if given.color_layout in ("G", "G16") else 3
    if given.scale is not None:
        return Normalization(scale=_spread(given.scale, channels), bias=_spread(given.bias or 0.0, channels))
    mean, std = given.mean, given.std
    if given.from_weights:
        if preprocessing is None or len(preprocessing.mean) != channels:
            raise SourceError(
                f"the weights publish no mean and std for the {channels} channel(s) of input {name}",
                code="B0320",
                hint="write mean and std, or scale and bias",
                key=f"input.{name}.from_weights",
            )
        mean, std = list(preprocessing.mean), list(preprocessing.std)
        if given.color_layout == "BGR":
            mean, std = mean[::-1], std[::-1]
    assert mean is not None
    assert std is not None
    means, stds = _spread(mean, channels), _spread(std, channels)
    return Normalization(
        scale=tuple(1.0 / (255.0 * s) for s in stds),
        bias=tuple(-m / s for m, s in zip(means, stds, strict=True)),
        mean=means,
        std=stds,
    )


def resolve_levels(given: ImageOutput) -> Normalization:
    """Return the coefficients that make levels of 0 to 255 of what the model returns."""
    channels = 1 if given.color_layout in ("G", "G16") else 3
    scale = 1.0 if given.scale is None else given.scale
    return Normalization(scale=_spread(scale, channels), bias=_spread(given.bias or 0.0, channels))


def _spread(value: PerChannel, channels: int) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(float(v) for v in (values * channels if len(values) == 1 else values))
