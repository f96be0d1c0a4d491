"""Values rounded to the steps of integers and back, as models that were trained for quantization have it."""

from __future__ import annotations

from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Unused, Var
from builder.backends.coreml.lowerings.variables import as_float, promoted


def fake_quantize(
    mb: Builder,
    x: Var,
    scale: Constant,
    zero_point: Constant,
    quant_min: int,
    quant_max: int,
    shape: list[int] | None = None,
) -> Var:
    """`(clamp(round(x / scale) + zero_point, quant_min, quant_max) - zero_point) * scale` (FakeQuantizeCore.cpp).

    The limits are those of the rounded value, so that the zero point is neither added nor subtracted. Scale and zero
    point are constants, of `shape` where there is one for each channel.
    """
    import numpy as np

    steps, zero = (np.asarray(each, dtype=np.float64) for each in (scale, zero_point))
    if shape is not None:
        steps, zero = steps.reshape(shape), zero.reshape(shape)
    elif steps.size == 1:
        steps, zero = steps.reshape(()), zero.reshape(())
    x, inverse, step, low, high = promoted(
        as_float(x), *(of.astype(np.float32) for of in (1 / steps, steps, quant_min - zero, quant_max - zero))
    )
    whole = mb.round(x=mb.mul(x=x, y=inverse))
    return mb.mul(x=mb.minimum(x=mb.maximum(x=whole, y=low), y=high), y=step)


def fake_quantize_channels(
    mb: Builder, x: Var, scale: Constant, zero_point: Constant, axis: int, quant_min: int, quant_max: int
) -> Var:
    """The same with a scale and a zero point for each entry of an axis."""
    shape = [1] * x.rank
    shape[axis] = -1
    return fake_quantize(mb, x, scale, zero_point, quant_min, quant_max, shape)


def fused_fake_quantize(
    mb: Builder,
    x: Var,
    observer_on: Constant,
    fake_quant_on: Constant,
    running_min: Unused,
    running_max: Unused,
    scale: Constant,
    zero_point: Constant,
    averaging_const: float,
    quant_min: int,
    quant_max: int,
    ch_axis: int,
    per_row_fake_quant: bool = False,
    symmetric_quant: bool = False,
) -> Var:
    """What `prepare_qat` puts behind weights and activations, with its observers off: a model that is done learning."""
    del running_min, running_max, averaging_const, symmetric_quant
    if any(observer_on if isinstance(observer_on, list) else [observer_on]):
        raise NotImplementedError(
            "the observer is on, which follows the values: call `model.apply(torch.ao.quantization.disable_observer)`"
        )
    if not any(fake_quant_on if isinstance(fake_quant_on, list) else [fake_quant_on]):
        return mb.identity(x=x)
    if per_row_fake_quant:
        return fake_quantize_channels(mb, x, scale, zero_point, ch_axis, quant_min, quant_max)
    return fake_quantize(mb, x, scale, zero_point, quant_min, quant_max)


QUANTIZED = (
    *(
        Lowering(operator=f"fake_quantize_per_tensor_affine{overload}", lower=fake_quantize)
        for overload in ("", ".tensor_qparams")
    ),
    Lowering(operator="fake_quantize_per_channel_affine", lower=fake_quantize_channels),
    Lowering(operator="fused_moving_avg_obs_fake_quant", lower=fused_fake_quantize),
)
