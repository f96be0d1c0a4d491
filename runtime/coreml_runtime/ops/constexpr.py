"""MIL's `constexpr_*` operators: compressed weights made dense, once, when a program is planned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy
import torch
from torch import Tensor

from coreml_runtime.bits import unpack_bits
from coreml_runtime.errors import ModelError
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.quantization import along
from coreml_runtime.ops.table import Ints, decompresses, exact, table

# Below this many elements a table of pairs costs more than it saves.
_PAIRS_FROM = 1 << 17
# Elements that are dequantised at a time, so that the steps between stay in the processor's cache.
_CHUNK = 1 << 18


@exact
@decompresses
def constexpr_cast(*, source_val: Tensor, output_dtype: str, context: Context) -> Tensor:
    """fp16 weights as fp32."""
    return source_val.to(context.held(output_dtype))


@exact
@decompresses
def constexpr_affine_dequantize(
    *, quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int, context: Context
) -> Tensor:
    """Dense: scale * (data - zero point), both scalars or vectors along `axis` (iOS16)."""
    rank, slices = quantized_data.dim(), quantized_data.shape[axis]
    for parameter in (scale, zero_point):
        if parameter.numel() not in (1, slices):
            raise ModelError(
                f"constexpr_affine_dequantize: {parameter.numel()} scales or zero points for {slices} slices along "
                f"axis {axis}"
            )
    offset, factor = along(zero_point, rank, axis), along(scale, rank, axis)
    return _dequantized(quantized_data, factor, offset, context)


@exact
@decompresses
def constexpr_blockwise_shift_scale(
    *, data: Tensor, scale: Tensor, offset: Tensor | None = None, context: Context
) -> Tensor:
    """Dense: scale * (data - offset); each scale covers a block of data.shape / scale.shape elements (iOS18)."""
    _check_blocks("constexpr_blockwise_shift_scale", data.shape, scale.shape)
    return _dequantized(data, scale, offset, context)


def _dequantized(data: Tensor, scale: Tensor, offset: Tensor | None, context: Context) -> Tensor:
    """Chunk by chunk along the first axis: convert, subtract, multiply, and round to half where that is declared."""
    declared = context.output_types[-1]
    half = declared is not None and declared.dtype == "fp16"
    result = torch.empty(data.shape, dtype=scale.dtype)
    if not data.numel():
        return result
    block = data.shape[0] // scale.shape[0]
    rows = max(1, _CHUNK * data.shape[0] // data.numel())
    if scale.shape[0] > 1:
        rows = math.ceil(rows / block) * block
    for start in range(0, data.shape[0], rows):
        part = data[start : start + rows].to(scale.dtype)
        blocks = slice(None) if scale.shape[0] == 1 else slice(start // block, (start + rows) // block)
        if offset is not None:
            part = blockwise(part, offset[blocks].to(scale.dtype), torch.sub)
        part = blockwise(part, scale[blocks], torch.mul)
        result[start : start + rows] = part.to(torch.float16) if half else part
    return result


def blockwise(data: Tensor, parameter: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`operation` of data (d0, d1, …) and a parameter (n0, n1, …) whose elements cover blocks of d / n each."""
    blocked = [size for d, n in zip(data.shape, parameter.shape, strict=True) for size in (n, d // n)]
    spread = [size for n in parameter.shape for size in (n, 1)]
    return operation(data.reshape(blocked), parameter.reshape(spread)).reshape(data.shape)


def _check_blocks(name: str, shape: torch.Size, blocks: torch.Size | tuple[int, ...]) -> None:
    if len(shape) != len(blocks) or any(n < 1 or d % n for d, n in zip(shape, blocks, strict=True)):
        raise ModelError(f"{name}: parameters of shape {tuple(blocks)} do not divide data of shape {tuple(shape)}")


@exact
@decompresses
def constexpr_lut_to_dense(
    *, indices: Tensor, lut: Tensor, shape: Ints | None = None, vector_axis: int | None = None
) -> Tensor:
    """Indices replaced by what the look-up table holds.

    iOS16: indices are packed bytes (M), lut (P), the result has `shape`. iOS18: indices (*D) are one to a byte, lut is
    (*G, P, V): each table covers a group of D / G indices, and each entry is a vector laid along `vector_axis`.
    """
    if shape is not None:
        count, bits = math.prod(shape), max(lut.numel() - 1, 1).bit_length()
        if indices.numel() != -(-count * bits // 8):
            raise ModelError(
                f"constexpr_lut_to_dense: {indices.numel()} bytes of indices, where {count} of {bits} bits are declared"
            )
        if bits == 6 and lut.numel() == 64 and count >= _PAIRS_FROM and count % 4 == 0:
            return _lookup_packed_6(indices, lut).reshape(shape)
        return _lookup(_unpacked(indices, bits, count), lut).reshape(shape)
    _check_blocks("constexpr_lut_to_dense", indices.shape, lut.shape[:-2])
    if math.prod(lut.shape[:-2]) == 1:
        dense = _lookup(indices, lut.reshape(lut.shape[-2:])).reshape(*indices.shape, -1)
    else:
        dense = _grouped_lookup(indices, lut)
    return _laid_along(dense, lut.shape[-1], vector_axis)


def _grouped_lookup(indices: Tensor, lut: Tensor) -> Tensor:
    """One table a group of indices: (*D, V)."""
    dense = torch.empty((*indices.shape, lut.shape[-1]), dtype=lut.dtype)
    sizes = [d // g for d, g in zip(indices.shape, lut.shape[:-2], strict=True)]
    for group in itertools.product(*(range(count) for count in lut.shape[:-2])):
        window = tuple(slice(g * size, (g + 1) * size) for g, size in zip(group, sizes, strict=True))
        part = indices[window].contiguous()
        dense[window] = _lookup(part, lut[group]).reshape(*part.shape, -1)
    return dense


def _laid_along(dense: Tensor, vector: int, axis: int | None) -> Tensor:
    """(*D, V) -> (*D) with V times the size along `axis`."""
    if vector == 1:
        return dense.squeeze(-1)
    if axis is None:
        raise ModelError("constexpr_lut_to_dense: a table of vectors needs vector_axis")
    axis = axis % (dense.dim() - 1)
    return dense.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _lookup(indices: Tensor, lut: Tensor) -> Tensor:
    """Entries of lut (P) or (P, V) at uint8 indices (*D): (*D) or (*D, V).

    Scalars are fetched two at a time, through a table of all pairs: half the fetches, each as wide as a double.
    """
    index, entries = indices.numpy(), lut.contiguous().numpy()
    count = entries.shape[0]
    entries = entries.reshape(-1) if entries.size == count else entries
    if count < 256 and index.size and int(index.max()) >= count:
        raise ModelError(f"a look-up table of {count} entries is asked for entry {int(index.max())}")
    if entries.ndim != 1 or index.size < _PAIRS_FROM or index.size % 2:
        return torch.from_numpy(entries[index])
    single = numpy.zeros(256, entries.dtype)
    single[:count] = entries
    pairs = numpy.stack([numpy.tile(single, 256), numpy.repeat(single, 256)], axis=1)
    wide = numpy.dtype(f"u{2 * entries.dtype.itemsize}")
    fetched = pairs.view(wide).reshape(-1)[index.reshape(-1).view("<u2")]
    return torch.from_numpy(fetched.view(entries.dtype)).reshape(indices.shape)


def _lookup_packed_6(packed: Tensor, lut: Tensor) -> Tensor:
    """Entries of lut (64) at 6-bit indices packed in bytes (M): (M * 8 / 6).

    Three bytes are two words of twelve bits, each a pair of indices: unpacked no further, and a chunk at a time.
    """
    entries, columns = lut.contiguous().numpy(), packed.contiguous().numpy().reshape(-1, 3)
    pairs = numpy.stack([numpy.tile(entries, 64), numpy.repeat(entries, 64)], axis=1)
    wide = pairs.view(f"u{2 * entries.dtype.itemsize}").reshape(-1)
    fetched = numpy.empty((columns.shape[0], 2), wide.dtype)
    words = numpy.empty((1 << 14, 2), numpy.uint16)
    for start in range(0, columns.shape[0], words.shape[0]):
        first, second, third = columns[start : start + words.shape[0]].astype(numpy.uint16).T
        chunk = words[: first.size]
        numpy.bitwise_or(first, (second & 15) << 8, out=chunk[:, 0])
        numpy.bitwise_or(second >> 4, third << 4, out=chunk[:, 1])
        fetched[start : start + first.size] = wide[chunk]
    return torch.from_numpy(fetched.view(entries.dtype).reshape(-1))


def _unpacked(packed: Tensor, bits: int, count: int) -> Tensor:
    """`count` values of 1 to 8 bits from the bytes of an iOS16 parameter: (count) uint8."""
    return torch.from_numpy(unpack_bits(packed.contiguous().numpy().view(numpy.uint8), bits, count))


@exact
@decompresses
def constexpr_sparse_to_dense(*, nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    """Values where the mask is set, else zero. The mask is packed bits with a `shape` (iOS16), or bytes (iOS18)."""
    if shape is None:
        return _densified(nonzero_data, mask)
    count = math.prod(shape)
    if mask.numel() != -(-count // 8):
        raise ModelError(f"constexpr_sparse_to_dense: a mask of {mask.numel()} bytes for {count} elements")
    return _densified(nonzero_data, _unpacked(mask, 1, count)).reshape(shape)


def _densified(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    """Through a running count of the mask, which is twice as fast as assigning at the mask."""
    flags = mask.contiguous().numpy().reshape(-1)
    position = numpy.cumsum(flags, dtype=numpy.int32 if flags.size < 1 << 31 else numpy.int64)
    found = int(position[-1]) if flags.size else 0
    if found != nonzero_data.numel():
        raise ModelError(
            f"constexpr_sparse_to_dense: the mask sets {found} elements, {nonzero_data.numel()} are stored"
        )
    values = nonzero_data.numpy()
    dense = numpy.concatenate([numpy.zeros(1, values.dtype), values])[position]
    dense *= flags.astype(dense.dtype)
    return torch.from_numpy(dense).reshape(mask.shape)


def _nonzero(dense: Tensor, mask: Tensor) -> Tensor:
    """The values where the mask is set, in order; numpy's boolean index takes a third of torch's time."""
    return torch.from_numpy(dense.numpy()[mask.numpy().astype(bool)])


@exact
@decompresses
def constexpr_lut_to_sparse(
    *, indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """The mask and the values of sparse indices looked up in a table, vectors laid along `vector_axis` (iOS18)."""
    if lut.numel() == lut.shape[-2]:
        return indices_mask, _lookup(indices_nonzero_data, lut.reshape(-1))
    dense = constexpr_lut_to_dense(
        indices=_densified(indices_nonzero_data, indices_mask), lut=lut, vector_axis=vector_axis
    )
    mask = indices_mask
    if vector_axis is not None and lut.shape[-1] > 1:
        mask = mask.repeat_interleave(lut.shape[-1], dim=vector_axis)
    return mask, _nonzero(dense, mask)


@exact
@decompresses
def constexpr_sparse_blockwise_shift_scale(
    *, data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None, context: Context
) -> tuple[Tensor, Tensor]:
    """The mask and the dequantised values of sparse data; scale and offset cover blocks of the dense shape (iOS18)."""
    _check_blocks("constexpr_sparse_blockwise_shift_scale", data_mask.shape, scale.shape)
    dense = _dequantized(_densified(nonzero_data, data_mask), scale, offset, context)
    return data_mask, _nonzero(dense, data_mask)


OPS = table(
    constexpr_cast,
    constexpr_affine_dequantize,
    constexpr_blockwise_shift_scale,
    constexpr_lut_to_dense,
    constexpr_sparse_to_dense,
    constexpr_lut_to_sparse,
    constexpr_sparse_blockwise_shift_scale,
)
