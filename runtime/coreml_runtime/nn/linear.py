"""NeuralNetwork layers that multiply by a matrix or look rows of one up."""

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.binding import Known
from coreml_runtime.nn.layer import Binder, Kernel, Layer
from coreml_runtime.ops.linear import linear
from coreml_runtime.prepack import ShapeSpecializedKernel


def _quantize_to_int8(x: Tensor) -> Tensor:
    """What int8DynamicQuantize does to an input: symmetric, one scale for the whole tensor, then back to float."""
    scale = x.abs().amax() / 127.0
    return x if scale == 0 else torch.round(x / scale) * scale


def _flatten_to_matrix(x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The matrix that innerProduct multiplies, and its output shape without the channels (InnerProductLayerParams)."""
    if x.dim() >= 4:
        return x.reshape(*x.shape[:-3], -1), (1, 1)
    return x, ()


def inner_product(layer: Layer) -> Kernel:
    """The product x W^T + b over the last dimension, or over (C, H, W) taken together from rank 4 on."""
    p = layer.parameters
    weight = layer.later(p.weights, (p.outputChannels, p.inputChannels))
    bias = layer.weights(p.bias, (p.outputChannels,)) if p.hasBias else None
    product = ShapeSpecializedKernel("linear", linear, weight, {"bias": bias}, layer.source.packer)
    prepare = _quantize_to_int8 if p.int8DynamicQuantize else None

    def run(x: Tensor) -> Tensor:
        matrix, tail = _flatten_to_matrix(x)
        y = product(prepare(matrix) if prepare else matrix)
        return y.reshape(*y.shape, *tail) if tail else y

    return run


def batched_matmul(layer: Layer) -> Kernel:
    """Two inputs: a (transposed) product with broadcasting; one: a product with weights [X1, X2], stored transposed."""
    p = layer.parameters
    if len(layer.inputs) == 1:
        weight = layer.later(p.weights, (p.weightMatrixSecondDimension, p.weightMatrixFirstDimension))
        bias = layer.weights(p.bias, (p.weightMatrixSecondDimension,)) if p.hasBias else None
        product = ShapeSpecializedKernel("linear", linear, weight, {"bias": bias}, layer.source.packer)
        return (lambda x: product(_quantize_to_int8(x))) if p.int8DynamicQuantize else product
    left, right = p.transposeA, p.transposeB

    def run(x: Tensor, y: Tensor) -> Tensor:
        x = x.unsqueeze(0) if x.dim() == 1 else x
        y = y.unsqueeze(1) if y.dim() == 1 else y
        return torch.matmul(x.transpose(-1, -2) if left else x, y.transpose(-1, -2) if right else y)

    return run


def _rows(layer: Layer, columns: int, rows: int) -> Known:
    """The table (rows, columns) of an embedding, which the file holds transposed, made when it is first used."""
    stored = layer.later(layer.parameters.weights, (columns, rows))
    return Known(make=lambda: stored.raw.t().contiguous())


def _lookup(table: Known, bias: Tensor | None, indices: Tensor) -> Tensor:
    rows = functional.embedding(indices.long(), table.raw)
    return rows if bias is None else rows + bias


def embedding(layer: Layer) -> Kernel:
    """Indices (…, 1, 1, 1) to rows (…, C, 1, 1)."""
    p = layer.parameters
    table = _rows(layer, p.outputChannels, p.inputDim)
    bias = layer.weights(p.bias, (p.outputChannels,)) if p.hasBias else None
    return lambda x: _lookup(table, bias, x[..., 0, 0, 0])[..., None, None]


def embedding_nd(layer: Layer) -> Kernel:
    """Indices (…, 1) to rows (…, C)."""
    p = layer.parameters
    table = _rows(layer, p.embeddingSize, p.vocabSize)
    bias = layer.weights(p.bias, (p.embeddingSize,)) if p.hasBias else None
    return lambda x: _lookup(table, bias, x[..., 0])


LAYERS: dict[str, Binder] = {
    "innerProduct": inner_product,
    "batchedMatmul": batched_matmul,
    "embedding": embedding,
    "embeddingND": embedding_nd,
}
