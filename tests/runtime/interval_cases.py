"""How each operator with a transfer function is called, for the test that its bounds hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Case:
    """How an operator is called: values that are computed by shape, and what is constant."""

    values: Mapping[str, Any] = field(default_factory=lambda: {"x": (2, 3, 4, 6)})
    constants: Mapping[str, Any] = field(default_factory=dict)
    scale: float | None = None
    """The largest magnitude; None draws one over many decades."""
    low: float = -math.inf
    integer: tuple[int, int] | None = None
    """The range of integers, for an operator on such."""
    dtype: str = "fp32"


def weights(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def each(names: tuple[str, ...], *cases: Case) -> dict[str, list[Case]]:
    """The same cases for several operators."""
    return {name: list(cases) for name in names}


UNARY = Case()
SMALL = Case(scale=40.0)
BINARY = Case(values={"x": (2, 3, 4, 6), "y": (1, 3, 1, 1)})
INDICES = torch.tensor([[2, 0], [1, 1]])
CASES: dict[str, list[Case]] = {
    **each(
        (
            "abs",
            "square",
            "ceil",
            "floor",
            "round",
            "sign",
            "atan",
            "erf",
            "tanh",
            "sigmoid",
            "softplus",
            "softsign",
            "sin",
            "cos",
            "tan",
            "relu",
            "relu6",
            "logical_not",
            "identity",
            "gelu",
            "silu",
        ),
        UNARY,
        SMALL,
    ),
    "gelu": [
        UNARY,
        SMALL,
        *(Case(scale=s, constants={"mode": f"{m}_APPROXIMATION"}) for s in (None, 3.0) for m in ("TANH", "SIGMOID")),
    ],
    "silu": [UNARY, SMALL, Case(scale=3.0)],
    **each(("exp", "exp2", "sinh", "cosh"), SMALL, Case(scale=1e-3)),
    **each(("asin", "acos", "atanh"), Case(scale=1.0), Case(scale=0.1)),
    **each(("sqrt", "rsqrt", "log"), Case(low=0.0), Case(scale=1e-4, low=0.0), UNARY),
    "inverse": [Case(low=0.0), UNARY, Case(constants={"epsilon": 0.0})],
    "clip": [Case(constants={"alpha": -0.5, "beta": 2.0})],
    "threshold": [Case(constants={"alpha": 0.25})],
    "thresholded_relu": [Case(constants={"alpha": a}) for a in (-1.0, 0.5)],
    "linear_activation": [Case(constants={"alpha": a, "beta": 0.3}) for a in (-2.0, 0.0, 0.7)],
    "sigmoid_hard": [Case(constants={"alpha": 0.2, "beta": 0.5})],
    "scaled_tanh": [Case(constants={"alpha": a, "beta": 0.3}) for a in (-2.0, 3.0)],
    "leaky_relu": [Case(constants={"alpha": a}) for a in (0.1, -0.4, 3.0)],
    "elu": [Case(constants={"alpha": a}, scale=30.0) for a in (1.0, -0.4)],
    "clamped_relu": [Case(constants={"alpha": 0.1, "beta": 3.0})],
    "prelu": [Case(constants={"alpha": torch.tensor([0.1, -2.0, 1.5])})],
    "cast": [
        *(
            Case(constants={"dtype": kind}, scale=s)
            for kind in ("int32", "int8", "uint8", "bool", "fp32")
            for s in (3.0, 1e3)
        ),
        *(
            Case(constants={"dtype": kind}, integer=(-70000, 70000))
            for kind in ("int16", "uint16", "int8", "fp32", "bool")
        ),
    ],
    **each(
        ("add", "sub", "mul", "maximum", "minimum"),
        BINARY,
        Case(constants={"y": weights(4, 6)}),
        Case(values=BINARY.values, integer=(-60000, 60000)),
    ),
    "real_div": [
        BINARY,
        Case(values=BINARY.values, low=0.01),
        Case(constants={"y": torch.tensor(-3.0)}),
        Case(values=BINARY.values, integer=(1, 50)),
    ],
    "floor_div": [
        BINARY,
        Case(values=BINARY.values, low=0.01),
        Case(constants={"y": torch.tensor(0.3)}),
        Case(values=BINARY.values, integer=(1, 50)),
    ],
    "mod": [BINARY, Case(values=BINARY.values, low=0.01), Case(values=BINARY.values, integer=(1, 50))],
    "pow": [
        *(Case(constants={"y": torch.tensor(e)}, scale=30.0) for e in (2.0, 3.0, 0.0, 1.0)),
        Case(constants={"y": torch.tensor(-0.5)}, low=0.0),
        Case(values=BINARY.values, scale=3.0, low=0.0),
        Case(values=BINARY.values, scale=3.0),
    ],
    **each(
        (
            "equal",
            "not_equal",
            "greater",
            "greater_equal",
            "less",
            "less_equal",
            "logical_and",
            "logical_or",
            "logical_xor",
        ),
        BINARY,
    ),
    "select": [
        Case(values={"a": (3, 4), "b": (1, 4)}, constants={"cond": torch.tensor([True, False, True, False])}),
        Case(values={"cond": (3, 4), "a": (3, 4)}, constants={"b": torch.tensor(-7.0)}),
        Case(values={"a": (3, 4), "b": (3, 4)}, constants={"cond": torch.tensor([True])}),
    ],
    "conv": [
        Case(constants={"weight": weights(4, 3, 3, 3), "bias": weights(4)}),
        Case(constants={"weight": weights(6, 1, 3, 3), "groups": 3, "pad_type": "same", "strides": (2, 2)}),
        Case(constants={"weight": weights(4, 3, 1, 1), "pad_type": "custom", "pad": (1, 0, 0, 2)}, low=1.0),
        Case(values={"x": (2, 3, 8), "weight": (5, 3, 3)}, scale=9.0),
    ],
    "conv_transpose": [
        Case(constants={"weight": weights(3, 4, 3, 3), "bias": weights(4), "strides": (2, 2)}),
        Case(constants={"weight": weights(3, 2, 2, 2), "groups": 3, "strides": (2, 2)}, low=0.5),
    ],
    "linear": [
        Case(values={"x": (2, 5, 6)}, constants={"weight": weights(4, 6), "bias": weights(4)}),
        Case(values={"x": (2, 6), "weight": (4, 6)}, scale=9.0),
    ],
    "matmul": [
        Case(values={"x": (2, 5, 6), "y": (2, 6, 3)}),
        Case(values={"x": (2, 6, 5), "y": (3, 6)}, constants={"transpose_x": True, "transpose_y": True}),
        Case(values={"x": (2, 5, 6)}, constants={"y": weights(6, 3)}),
        Case(values={"x": (2, 5, 6)}, constants={"y": weights(3, 6), "transpose_y": True}),
        Case(values={"y": (2, 6, 3)}, constants={"x": weights(4, 6)}),
        Case(values={"y": (2, 6, 3)}, constants={"x": weights(6, 4), "transpose_x": True}),
    ],
    "einsum": [Case(values={"values": ((2, 4, 5), (2, 5, 3))}, constants={"equation": "bij,bjk->bik"})],
    "scaled_dot_product_attention": [
        Case(values={"query": (1, 2, 4, 6), "key": (1, 2, 5, 6), "value": (1, 2, 5, 3)}, scale=20.0),
        Case(
            values={"query": (1, 2, 4, 6), "key": (1, 2, 5, 6), "value": (1, 2, 5, 3)},
            scale=20.0,
            constants={"attn_mask": torch.tensor([True, False, True, True, False])},
        ),
    ],
    "batch_norm": [
        Case(constants={"mean": weights(3), "variance": weights(3).abs(), "gamma": weights(3), "beta": weights(3)}),
        Case(constants={"mean": weights(3), "variance": weights(3).abs()}),
    ],
    "layer_norm": [
        Case(constants={"axes": (-1,), "gamma": weights(6), "beta": weights(6)}),
        Case(constants={"axes": (1,), "epsilon": 1e-3}),
        Case(constants={"axes": (-1,), "epsilon": 1e-12}),
        Case(constants={"axes": (2, 3), "gamma": weights(4, 6)}),
    ],
    "instance_norm": [Case(constants={"gamma": weights(3), "beta": weights(3)}), Case(constants={"epsilon": 1e-2})],
    "l2_norm": [UNARY],
    "local_response_norm": [Case(constants={"size": 3})],
    "softmax": [Case(constants={"axis": 1}, scale=5.0), UNARY],
    **each(
        (
            "reduce_sum",
            "reduce_mean",
            "reduce_max",
            "reduce_min",
            "reduce_sum_square",
            "reduce_l1_norm",
            "reduce_l2_norm",
            "reduce_log_sum_exp",
        ),
        Case(constants={"axes": (1, 3)}),
        Case(constants={"axes": (2,), "keep_dims": True}),
        Case(low=0.0),
    ),
    "reduce_log_sum": [Case(constants={"axes": (1,)}, low=0.1)],
    "reduce_prod": [Case(constants={"axes": (1,)}), Case(constants={"axes": (1,), "keep_dims": True}, low=0.5)],
    "reduce_argmax": [Case(constants={"axis": 3})],
    "reduce_argmin": [Case(constants={"axis": 1})],
    "cumsum": [
        Case(constants={"axis": a, "exclusive": e, "reverse": e}, low=low)
        for a, e, low in ((1, False, -math.inf), (3, True, 0.0), (3, False, 1.0))
    ],
    "max_pool": [Case(constants={"kernel_sizes": (2, 2), "pad_type": "same", "strides": (2, 2)})],
    "avg_pool": [
        Case(constants={"kernel_sizes": (2, 2), "pad_type": "custom", "pad": (1, 1, 1, 1)}, low=0.5),
        Case(constants={"kernel_sizes": (2, 3), "pad_type": "valid"}),
    ],
    "l2_pool": [Case(constants={"kernel_sizes": (2, 2), "pad_type": "valid"})],
    "fill": [Case(values={"value": ()}, constants={"shape": (2, 3)})],
    "fill_like": [Case(values={"value": (), "ref_tensor": (2, 3)})],
    "reshape": [
        Case(constants={"shape": (6, 24)}),
        Case(constants={"shape": (2, 3, 24)}),
        Case(constants={"shape": (2, 3, 2, 2, 6)}),
        Case(constants={"shape": (144,)}),
    ],
    "transpose": [Case(constants={"perm": (0, 2, 3, 1)}), Case(constants={"perm": (-1, 0, 1, -2)})],
    "squeeze": [Case(values={"x": (2, 1, 3, 1)}), Case(values={"x": (2, 1, 3, 1)}, constants={"axes": (1,)})],
    "expand_dims": [Case(values={"x": (2, 3)}, constants={"axes": (0, -1)})],
    "slice_by_index": [
        Case(constants={"begin": (0, 1, 0, 2), "end": (0, 3, -1, 6), "end_mask": (True, False, False, False)}),
        Case(
            constants={
                "begin": (1, -1, 0, 5),
                "end": (0, 0, 4, 0),
                "stride": (1, 1, 2, -1),
                "squeeze_mask": (True, True, False, False),
            }
        ),
    ],
    "slice_by_size": [Case(constants={"begin": (0, -2, 1, 0), "size": (2, 1, -1, 3)})],
    "concat": [
        Case(values={"values": ((2, 3), (2, 4))}, constants={"axis": 1}),
        Case(values={"values": ((2, 3), (2, 3))}, constants={"axis": 1, "interleave": True}),
    ],
    "stack": [Case(values={"values": ((2, 3), (2, 3))}, constants={"axis": 1})],
    "split": [Case(constants={"num_splits": 3, "axis": 1}), Case(constants={"split_sizes": (2, 4), "axis": -1})],
    "tile": [Case(constants={"reps": (1, 2, 1, 3)})],
    "pad": [
        Case(constants={"pad": (1, 0, 2, 1), "constant_val": 7.0}),
        Case(constants={"pad": (1, 1), "mode": "reflect"}),
        Case(constants={"pad": (0, 0, 1, 1), "mode": "replicate"}),
    ],
    "gather": [
        Case(constants={"indices": INDICES, "axis": 1}),
        Case(constants={"indices": torch.tensor(1), "axis": 0}),
        Case(values={"x": (2, 4, 3), "indices": (2, 5)}, integer=(0, 2), constants={"axis": 1, "batch_dims": 1}),
    ],
    "gather_along_axis": [Case(values={"x": (2, 2)}, constants={"indices": INDICES % 2, "axis": 1})],
    "gather_nd": [Case(values={"x": (3, 4)}, constants={"indices": INDICES})],
    "band_part": [Case(constants={"lower": 1, "upper": 0}, low=1.0)],
    "slice_update": [Case(values={"x": (3, 4), "update": (2, 4)}, constants={"begin": (1, 0), "end": (3, 4)})],
    "scatter": [
        Case(values={"data": (4, 3), "updates": (2, 3)}, constants={"indices": torch.tensor([1, 1]), "mode": mode})
        for mode in ("add", "sub", "update", "max", "mul")
    ],
    "scatter_along_axis": [
        Case(values={"data": (2, 2), "updates": (2, 2)}, constants={"indices": INDICES % 2, "axis": 1})
    ],
    "scatter_nd": [Case(values={"data": (3, 4), "updates": (2,)}, constants={"indices": INDICES})],
    "one_hot": [
        Case(values={"on_value": (), "off_value": ()}, constants={"indices": INDICES, "one_hot_vector_size": 4})
    ],
    "topk": [Case(constants={"k": 2, "axis": 1}), Case(constants={"k": 2, "axis": 1, "return_indices": False})],
    "argsort": [Case(constants={"axis": 1})],
    "range_1d": [
        Case(values={"end": ()}, constants={"start": torch.tensor(0), "step": torch.tensor(2)}, integer=(3, 9))
    ],
    "shape": [UNARY],
    "non_zero": [UNARY],
    "reshape_like": [
        Case(
            constants={
                "ref_tensors": (torch.zeros(6, 24),),
                "begins": (torch.tensor(0),),
                "ends": (torch.tensor(2),),
                "end_masks": (torch.tensor(False),),
            }
        )
    ],
    "reverse": [Case(constants={"axes": (1, 3)})],
    "reverse_sequence": [Case(values={"x": (3, 4)}, constants={"lengths": torch.tensor([2, 3, 4]), "seq_axis": 1})],
    "sliding_windows": [Case(constants={"axis": 3, "size": 3})],
    "depth_to_space": [Case(values={"x": (1, 4, 2, 3)}, constants={"block_size": 2})],
    "space_to_depth": [Case(constants={"block_size": 2})],
    "space_to_batch": [Case(constants={"block_shape": (2, 2), "paddings": (1, 1, 0, 0)}, low=1.0)],
    "batch_to_space": [Case(values={"x": (4, 3, 2, 2)}, constants={"block_shape": (2, 2), "crops": (0, 1, 0, 0)})],
    "pixel_shuffle": [Case(values={"x": (1, 4, 2, 3)}, constants={"upscale_factor": 2})],
    "pixel_unshuffle": [Case(constants={"downscale_factor": 2})],
    "crop": [Case(constants={"crop_height": (1, 0), "crop_width": (0, 2)})],
    "flatten2d": [UNARY],
    "upsample_nearest_neighbor": [Case(constants={"scale_factor_height": 2, "scale_factor_width": 2})],
    "resize_nearest_neighbor": [Case(constants={"target_size_height": 3, "target_size_width": 9})],
    "upsample_bilinear": [Case(constants={"scale_factor_height": 2, "scale_factor_width": 2})],
    "resize_bilinear": [
        Case(constants={"target_size_height": 3, "target_size_width": 9, "sampling_mode": m})
        for m in ("DEFAULT", "UNALIGN_CORNERS")
    ],
    "resize": [Case(constants={"shape": (3, 9), "resized_dims": 2})],
    "lstm": [
        Case(
            values={"x": (5, 2, 4), "initial_h": (2, 3), "initial_c": (2, 3)},
            constants={"weight_ih": weights(12, 4), "weight_hh": weights(12, 3), "output_sequence": True},
        )
    ],
    "gru": [
        Case(
            values={"x": (5, 2, 4), "initial_h": (2, 3)},
            constants={"weight_ih": weights(9, 4), "weight_hh": weights(9, 3), "reset_after": r},
        )
        for r in (False, True)
    ],
    "rnn": [
        Case(
            values={"x": (5, 2, 4), "initial_h": (2, 3)},
            constants={"weight_ih": weights(3, 4), "weight_hh": weights(3, 3)},
        )
    ],
    "random_bernoulli": [Case(values={}, constants={"shape": (3, 4)})],
    "random_uniform": [Case(values={}, constants={"shape": (3, 4), "low": -2.0, "high": 3.0})],
    "random_categorical": [Case(values={"x": (3, 4)}, scale=3.0)],
    "quantize": [Case(values={"input": (3, 4)}, constants={"scale": torch.tensor(0.3), "output_dtype": "int8"})],
    "dequantize": [
        Case(
            values={"input": (3, 4)},
            integer=(-128, 127),
            constants={
                "scale": torch.tensor([0.1, 0.2, 0.3, 0.4]),
                "zero_point": torch.tensor(3, dtype=torch.int8),
                "axis": 1,
            },
        )
    ],
}
"""By operator; a list shared by several operators is tried for each."""
