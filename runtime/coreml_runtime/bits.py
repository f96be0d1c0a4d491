"""Unpacks integers of 1 to 8 bits that lie side by side in bytes: the one place for all file formats."""

from __future__ import annotations

import math

import numpy as np

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def unpack_bits(packed: Bytes, bits: int, count: int, *, most_significant_first: bool = False) -> Bytes:
    """`count` unsigned values of `bits` bits from bytes (M,): (count,) uint8.

    ML programs fill a byte from its least significant bit, neural networks from the most significant.
    """
    if bits == 8:
        return packed[:count]
    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="big" if most_significant_first else "little")
    group_bytes, group_values = math.lcm(bits, 8) // 8, math.lcm(bits, 8) // bits
    if packed.size % group_bytes:
        packed = np.concatenate([packed, np.zeros(group_bytes - packed.size % group_bytes, np.uint8)])
    columns = packed.reshape(-1, group_bytes)
    values = np.empty((columns.shape[0], group_values), np.uint8)
    mask = np.uint8((1 << bits) - 1)
    for position in range(group_values):
        byte, used = divmod(position * bits, 8)
        over = used + bits - 8
        first, second = columns[:, byte], columns[:, byte + 1] if over > 0 else None
        if most_significant_first:
            value = (
                first >> np.uint8(-over) if second is None else first << np.uint8(over) | second >> np.uint8(8 - over)
            )
        else:
            value = (
                first >> np.uint8(used) if second is None else first >> np.uint8(used) | second << np.uint8(8 - used)
            )
        np.bitwise_and(value, mask, out=values[:, position])
    return values.reshape(-1)[:count]
