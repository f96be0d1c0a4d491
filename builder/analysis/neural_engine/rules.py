"""The rules, one function each: what it finds in a model. Confidence and sources are in `table`."""

from __future__ import annotations

from collections.abc import Iterator

from builder.analysis.neural_engine.model import Hit, Model, Operator, Tensor

MOST_IN_A_DIMENSION = 16384
WIDEST_KERNEL = 13
LONGEST_ARGUMENT_AXIS = 2048
BYTES_ON_CHIP = 2_000_000
_USUAL_RANK, _HIGHEST_RANK = 4, 5

_HEAVY = frozenset(
    {
        *("conv", "conv_transpose", "linear", "matmul", "einsum", "scaled_dot_product_attention"),
        *("avg_pool", "max_pool", "l2_pool", "layer_norm", "batch_norm", "instance_norm", "softmax"),
        *("relu", "gelu", "silu", "sigmoid", "tanh", "exp", "erf", "reduce_mean", "reduce_sum", "reduce_max"),
    }
)
"""What is worth a Neural Engine; the few float32 operators that normalise a picture are not counted."""
_RECURRENT = ("lstm", "gru", "rnn")
_GATHERS = ("gather", "gather_nd", "gather_along_axis")
_SCATTERS = ("scatter", "scatter_nd", "scatter_along_axis", "reduce_prod")
_SORTS = ("topk", "argsort", "non_maximum_suppression", "non_zero")
_ARITHMETIC = ("add", "sub", "mul", "real_div", "floor_div", "mod", "maximum", "minimum", "pow", "clip", "abs", "sign")


def float32(model: Model) -> Iterator[Hit]:
    """Operators that compute in float32: the Neural Engine computes in float16 only."""
    for operator in model.operators:
        in_float32 = any(output.dtype == "fp32" for output in operator.outputs)
        if operator.kind in _HEAVY and in_float32 and not _normalises_a_picture(operator):
            yield _hit(operator, "computes in float32")


def _normalises_a_picture(operator: Operator) -> bool:
    """Whether this is the first step of a model of pictures, with mean and deviation of one or three channels."""
    shape = operator.outputs[0].shape
    return operator.kind == "batch_norm" and len(shape) == 4 and shape[1] in (1, 3)


def flexible_range(model: Model) -> Iterator[Hit]:
    """Inputs whose size is anything in a range: usually such a model runs on the CPU or GPU as a whole."""
    yield from (Hit(name=i.name, summary="has a range of sizes") for i in model.inputs if i.flexible == "range")


def flexible_enumerated(model: Model) -> Iterator[Hit]:
    """Inputs of several enumerated sizes: others than the default one may run elsewhere."""
    yield from (Hit(name=i.name, summary="has several sizes") for i in model.inputs if i.flexible == "enumerated")


def recurrent(model: Model) -> Iterator[Hit]:
    """Recurrent layers: not supported by the Neural Engine."""
    yield from (_hit(operator, "is recurrent") for operator in model.operators if operator.kind in _RECURRENT)


def rank(model: Model) -> Iterator[Hit]:
    """Tensors of more than 4 dimensions: the engine's own format has 4, with channels in the second one."""
    for operator, most in _ranks(model):
        if _USUAL_RANK < most <= _HIGHEST_RANK:
            yield _hit(operator, f"gives a tensor of rank {most}")


def rank_above_5(model: Model) -> Iterator[Hit]:
    """Tensors of more than 5 dimensions: Core ML does not load such a model."""
    for operator, most in _ranks(model):
        if most > _HIGHEST_RANK:
            yield _hit(operator, f"gives a tensor of rank {most}")


def _ranks(model: Model) -> Iterator[tuple[Operator, int]]:
    """Each operator with its highest rank."""
    for operator in _computing(model):
        yield operator, max((len(output.shape) for output in operator.outputs), default=0)


def _computing(model: Model) -> Iterator[Operator]:
    """The operators that run in a prediction: compressed weights are unpacked before, from tables of any shape."""
    return (operator for operator in model.operators if not operator.kind.startswith("constexpr_"))


def large_dimension(model: Model) -> Iterator[Hit]:
    """Dimensions above 16,384, of constants too: the engine does not take them (vocabularies, long sequences)."""
    for operator in model.operators:
        for tensor in (*operator.outputs, *operator.inputs.values()):
            longest = max((size or 0 for size in tensor.shape), default=0)
            if longest > MOST_IN_A_DIMENSION and not operator.kind.startswith(("cast", "constexpr_")):
                yield _hit(operator, f"has a dimension of {longest}")
                break


def large_kernel(model: Model) -> Iterator[Hit]:
    """Kernels of convolutions wider than 13."""
    for operator in model.operators:
        kernel = _kernel(operator)
        if kernel and max(kernel) > WIDEST_KERNEL:
            yield _hit(operator, f"has a kernel of {' x '.join(map(str, kernel))}")


def dilated_convolution(model: Model) -> Iterator[Hit]:
    """Dilated convolutions: reported to stay off the engine on older systems, and to run on newer ones."""
    for operator in model.operators:
        dilations = operator.constants.get("dilations") or []
        if operator.kind in ("conv", "conv_transpose") and any(d != 1 for d in dilations):
            yield _hit(operator, f"has dilations {dilations}")


def convolution_3d(model: Model) -> Iterator[Hit]:
    """Convolutions in three dimensions."""
    for operator in model.operators:
        if operator.kind in ("conv", "conv_transpose") and len(_kernel(operator)) == 3:
            yield _hit(operator, "convolves in three dimensions")


def gather(model: Model) -> Iterator[Hit]:
    """Gathers, embeddings among them: seen on the CPU in published compute plans."""
    yield from (_hit(operator, "gathers") for operator in model.operators if operator.kind in _GATHERS)


def scatter(model: Model) -> Iterator[Hit]:
    """Scatters and products over an axis: no path in hardware."""
    yield from (_hit(o, f"is a {o.kind}") for o in model.operators if o.kind in _SCATTERS)


def sort(model: Model) -> Iterator[Hit]:
    """Sorting and selecting: seen on the CPU in compute plans of detectors, with what consumes their indices."""
    yield from (_hit(o, "sorts or selects by value") for o in model.operators if o.kind in _SORTS)


def long_argmax(model: Model) -> Iterator[Hit]:
    """Arguments of the greatest or least value along more than 2,048 values."""
    for operator in model.operators:
        x = operator.inputs.get("x")
        if operator.kind in ("reduce_argmax", "reduce_argmin") and x is not None:
            size = _along(x, operator.constants.get("axis", -1))
            if size > LONGEST_ARGUMENT_AXIS:
                yield _hit(operator, f"looks along {size} values")


def integer_arithmetic(model: Model) -> Iterator[Hit]:
    """Arithmetic on int32: the engine's datapath is float16."""
    for operator in model.operators:
        on_integers = operator.outputs and all(output.dtype.startswith(("int", "uint")) for output in operator.outputs)
        if operator.kind in _ARITHMETIC and on_integers:
            yield _hit(operator, "computes with integers")


def padding_mode(model: Model) -> Iterator[Hit]:
    """Padding by reflection or replication: seen on the CPU in a published compute plan."""
    for operator in model.operators:
        mode = operator.constants.get("mode", "constant")
        if operator.kind == "pad" and mode != "constant":
            yield _hit(operator, f"pads by {mode}")


def layout(model: Model) -> Iterator[Hit]:
    """Linear layers on (batch, sequence, channels): Apple's own transformers use (B, C, 1, S) and 1x1 convolutions."""
    for operator in model.operators:
        if operator.kind == "linear" and operator.outputs and len(operator.outputs[0].shape) == 3:
            yield _hit(operator, "is linear on a tensor of rank 3")


def narrow_last_axis(model: Model) -> Iterator[Hit]:
    """Large tensors with a last axis of 1 or 2: the engine pads that axis to 64 bytes, up to 32 times the memory."""
    for operator in _computing(model):
        for output in operator.outputs:
            narrow = len(output.shape) > 1 and output.shape[-1] in (1, 2)
            if narrow and output.elements >= MOST_IN_A_DIMENSION:
                yield _hit(operator, f"gives a tensor of shape {output.shape}")
                break


def working_set(model: Model) -> Iterator[Hit]:
    """Activations of over 2 MB in float16: they do not stay on the chip, so the operator waits for memory."""
    for operator in model.operators:
        largest = max((2 * output.elements for output in operator.outputs), default=0)
        if operator.kind in _HEAVY and largest > BYTES_ON_CHIP:
            yield _hit(operator, f"gives {largest / 1e6:.1f} MB")


def custom_layer(model: Model) -> Iterator[Hit]:
    """Custom layers: an app can implement them for the CPU and the GPU only."""
    yield from (_hit(operator, "is a custom layer") for operator in model.operators if operator.kind == "custom")


def broadcastable_layer(model: Model) -> Iterator[Hit]:
    """Broadcastable and "ND" layers of neural networks, for tensors of any rank."""
    for operator in model.operators:
        if operator.kind.endswith(("Broadcastable", "ND")):
            yield _hit(operator, f"is a {operator.kind} layer")


def _hit(operator: Operator, summary: str) -> Hit:
    return Hit(name=operator.name, summary=f"{summary} ({operator.kind})")


def _kernel(operator: Operator) -> tuple[int, ...]:
    """The size of a convolution's kernel: of the weight's shape without its channels."""
    if "kernel" in operator.constants:
        return tuple(operator.constants["kernel"])
    weight: Tensor | None = operator.inputs.get("weight")
    if operator.kind not in ("conv", "conv_transpose") or weight is None:
        return ()
    return tuple(size or 0 for size in weight.shape[2:])


def _along(tensor: Tensor, axis: object) -> int:
    if not isinstance(axis, int) or not -len(tensor.shape) <= axis < len(tensor.shape):
        return tensor.elements
    return tensor.shape[axis] or 0
