"""How a weight is stored: plain, as scaled integers, as indices into a table, sparsely, or as several of these."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """`scale * (data - zero) + shift`, block by block: all have as many axes as `data`."""

    data: NDArray[np.integer]
    scale: Floats
    zero: NDArray[np.integer]
    bits: int
    shift: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Palette:
    """`table[block…, index, :]`, of which vectors lie along `axis`; times `scale` where there is one."""

    indices: NDArray[np.uint8]
    table: Floats
    bits: int
    axis: int
    scale: Floats | None = None
    integers: Scaled | None = None
    """The table itself as integers: `data` has its shape, scale and zero are single numbers."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One weight after the steps so far."""

    dense: Floats
    """What an operator sees."""
    scaled: Scaled | None = None
    palette: Palette | None = None
    mask: NDArray[np.bool_] | None = None
    """Where a value is stored, of a sparse one."""

    @property
    def name(self) -> str:
        """How it is stored, in a word."""
        kinds = {"sparse": self.mask is not None, "palettized": self.palette, "quantized": self.scaled}
        return " and ".join(kind for kind, is_so in kinds.items() if is_so) or "plain"

    def as_stored(self, dtype: np.dtype[np.floating]) -> Form:
        """The same with all floats in `dtype`, and `dense` computed in it."""

        def to(values: Floats | None) -> Floats | None:
            return None if values is None else values.astype(dtype)

        scaled, palette = self.scaled, self.palette
        if scaled is not None:
            scaled = replace(scaled, scale=scaled.scale.astype(dtype), shift=to(scaled.shift))
            dense = dequantize(scaled)
        elif palette is not None:
            palette = replace(palette, table=palette.table.astype(dtype), scale=to(palette.scale))
            dense = lookup(palette)
        else:
            dense = self.dense
        if self.mask is not None:
            dense = np.where(self.mask, dense, 0)
        return Form(dense=dense.astype(dtype), scaled=scaled, palette=palette, mask=self.mask)

    @property
    def bytes(self) -> int:
        """What it takes at least, without the names around it."""
        count = self.dense.size if self.mask is None else int(self.mask.sum())
        bits = 0 if self.mask is None else self.mask.size
        if self.palette is not None:
            vector = self.palette.table.shape[-1]
            bits += -(-count // vector) * self.palette.bits
            bits += 8 * (self.palette.table.nbytes + (0 if self.palette.scale is None else self.palette.scale.nbytes))
        elif self.scaled is not None:
            parameters = self.scaled.scale.nbytes + self.scaled.zero.nbytes
            bits += count * self.scaled.bits + 8 * parameters
            bits += 0 if self.scaled.shift is None else 8 * self.scaled.shift.nbytes
        else:
            bits += 8 * count * self.dense.itemsize
        return -(-bits // 8)

    @property
    def is_compressed(self) -> bool:
        """Whether anything has changed it."""
        return self.name != "plain"


def expand(blocks: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """One value for each element from one for each block."""
    for axis, size in enumerate(shape):
        if blocks.shape[axis] != size:
            blocks = np.repeat(blocks, size // blocks.shape[axis], axis)
    return blocks


def lookup(palette: Palette) -> Floats:
    """The dense values of a palette: `coreai.lut_to_dense`, then its scale."""
    indices, table = palette.indices, palette.table
    if palette.integers is not None:
        table = (palette.integers.data - palette.integers.zero).astype(table.dtype) * palette.integers.scale
    blocks = [np.arange(size) * table.shape[axis] // size for axis, size in enumerate(indices.shape)]
    found = table[(*np.ix_(*blocks), indices)]  # (*indices.shape, vector)
    dense = np.moveaxis(found, -1, palette.axis + 1)
    shape = list(indices.shape)
    shape[palette.axis] *= table.shape[-1]
    dense = dense.reshape(shape)
    return dense if palette.scale is None else dense * palette.scale


def dequantize(scaled: Scaled) -> Floats:
    """The dense values of scaled integers: `coreai.blockwise_shift_scale`."""
    shape = scaled.data.shape
    plain = scaled.data.astype(scaled.scale.dtype) - expand(scaled.zero, shape).astype(scaled.scale.dtype)
    dense: Floats = np.multiply(plain, expand(scaled.scale, shape))
    return dense if scaled.shift is None else np.add(dense, expand(scaled.shift, shape))
