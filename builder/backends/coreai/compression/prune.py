"""The smallest weights become zero and are not stored: the rules of coremltools' `prune_weights`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from builder.spec.compression import Prune
from coreml_runtime.forms import Form


def prune(form: Form, step: Prune, channels: tuple[int, int] | None) -> Form | str:  # noqa: ARG001 - as all methods
    """The weight with zeros, stored sparsely; or why not."""
    if form.mask is not None:
        return f"compressed already ({form.name}), and prune adds nothing to that"
    if form.palette is not None and form.palette.table.size != 1 << form.palette.bits:
        return "palettes of several tables or of vectors are not stored sparsely"
    if form.palette is not None and (form.palette.scale is not None or form.palette.integers is not None):
        return f"compressed already ({form.name} with scales), and prune adds nothing to that"
    if form.scaled is not None and form.scaled.zero.any():
        return "integers with a zero point other than 0 are not stored sparsely"
    kept = _kept(form.dense, step)
    if isinstance(kept, str):
        return kept
    palette = form.palette
    if palette is not None:
        palette = replace(
            palette, indices=palette.indices[kept], table=palette.table.reshape(1, 1 << palette.bits, 1), axis=0
        )
    dense = np.where(kept, form.dense, np.zeros_like(form.dense))
    return replace(form, mask=kept, palette=palette, dense=dense)


def _kept(weight: np.ndarray, step: Prune) -> NDArray[np.bool_] | str:
    """Where a value stays."""
    magnitude = np.abs(weight.astype(np.float64))
    if step.threshold is not None:
        kept = magnitude > step.threshold
        least = 0.5 if step.minimum_sparsity is None else step.minimum_sparsity
        share = 1 - kept.mean()
        return kept if share >= least else f"{share:.2f} of it would be zero, and minimum_sparsity is {least:g}"
    if step.n_m_ratio is not None:
        return _n_of_m(magnitude, *step.n_m_ratio, axis=1 if step.dim is None else step.dim)
    assert step.target_sparsity is not None, "one of the three is given"
    if step.block_size is not None:
        blocks = _block_norms(magnitude, step.block_size, step.dim or 0)
        if isinstance(blocks, str):
            return blocks
        magnitude = blocks
    kept = magnitude > np.percentile(magnitude, step.target_sparsity * 100)
    stays: NDArray[np.bool_] = kept & (weight != 0)
    return stays


def _block_norms(magnitude: np.ndarray, block: int, axis: int) -> np.ndarray | str:
    """For each value the norm of its block of neighbours along `axis`; the last block may be shorter."""
    count = magnitude.shape[axis]
    if block > count / 2:
        return f"blocks of {block} along an axis of {count}"
    moved = np.moveaxis(magnitude, axis, 0)
    padded = np.pad(moved, [(0, -count % block)] + [(0, 0)] * (moved.ndim - 1))
    norms = np.sqrt((padded.reshape(-1, block, *moved.shape[1:]) ** 2).sum(1))
    return np.moveaxis(np.repeat(norms, block, 0)[:count], 0, axis)


def _n_of_m(magnitude: np.ndarray, n: int, m: int, *, axis: int) -> NDArray[np.bool_] | str:
    """All but the n smallest of every m neighbours along `axis`."""
    count = magnitude.shape[axis]
    if m > count / 2:
        return f"n:m ratios of {m} along an axis of {count}"
    moved = np.moveaxis(magnitude, axis, -1)
    padded = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, -count % m)])
    groups = padded.reshape(*moved.shape[:-1], -1, m)
    kept = np.ones(groups.shape, dtype=bool)
    np.put_along_axis(kept, np.argsort(groups, axis=-1)[..., :n], False, axis=-1)
    return np.moveaxis(kept.reshape(padded.shape)[..., :count], -1, axis)
