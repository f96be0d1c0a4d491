"""Indices into small tables of values, by our own k-means; vectors by scikit-learn's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from builder.backends.coreml.compression.kmeans import cluster_values
from builder.spec.compression import Palettize
from coreml_runtime.forms import Form, Palette, lookup

_BITS = (1, 2, 3, 4, 6, 8)


def palettize(form: Form, step: Palettize, channels: tuple[int, int] | None) -> Form | str:
    """The weight as indices; of a sparse one, its values; or why not. `channels` are its output and input axes."""
    if form.palette is not None or form.scaled is not None:
        return f"compressed already ({form.name}), and palettize adds nothing to that"
    if form.mask is not None:
        return _sparse(form, step)
    if channels is None and (step.granularity != "per_tensor" or step.cluster_dim > 1):
        return "its users have their output channels on different axes"
    axis = step.channel_axis if step.channel_axis is not None else (channels or (0, 1))[0]
    weight, scale = form.dense, None
    if step.enable_per_channel_scale:
        others = tuple(d for d in range(weight.ndim) if d != axis)
        scale = np.abs(weight).max(axis=others, keepdims=True)
        scale = np.where(scale == 0, np.ones_like(scale), scale)
        weight = weight / scale
    group = weight.shape[axis] if step.granularity == "per_tensor" else step.group_size or 32
    if weight.shape[axis] % group:
        return f"{weight.shape[axis]} channels are not a multiple of the group size {group}"
    if group % step.cluster_dim:
        return "the output channels of each group are not a multiple of cluster_dim"
    found = _grouped(weight, step, axis, group)
    if isinstance(found, str):
        return found
    palette = replace(found, scale=scale)
    return replace(form, palette=palette, dense=lookup(palette).astype(form.dense.dtype))


def _grouped(weight: np.ndarray, step: Palettize, axis: int, group: int) -> Palette | str:
    """One table for each group of channels along `axis`."""
    moved = np.swapaxes(weight, 0, axis)
    parts = np.split(moved, moved.shape[0] // group)
    bits = step.nbits if step.mode != "unique" else _bits_for(parts, step.cluster_dim)
    if bits is None:
        return "more than 256 different values, and `unique` loses none"
    tables, indices = zip(*(_table(_vectors(part, step.cluster_dim), step.mode, bits) for part in parts), strict=True)
    shape = [moved.shape[0] // step.cluster_dim, *moved.shape[1:]]
    placed = np.swapaxes(np.concatenate([i.reshape(-1) for i in indices]).reshape(shape), 0, axis)
    table_shape = [1] * weight.ndim + [1 << bits, step.cluster_dim]
    table_shape[axis] = len(parts)
    table = np.stack(tables).reshape(table_shape).astype(weight.dtype)
    return Palette(indices=np.ascontiguousarray(placed, dtype=np.uint8), table=table, bits=bits, axis=axis)


def _vectors(part: np.ndarray, count: int) -> np.ndarray:
    """(N, count): neighbours along the first axis belong together, in the order of what is left of `part`."""
    grouped = part.reshape(part.shape[0] // count, count, -1)
    return np.swapaxes(grouped, 1, 2).reshape(-1, count)


def _table(vectors: np.ndarray, mode: str, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A table (2**bits, vector) and the index (N) of each vector."""
    count, size = 1 << bits, vectors.shape[1]
    if mode == "uniform":
        low, high = float(vectors.min()), float(vectors.max())
        step = (high - low) / (count - 1) or 1.0
        return (np.arange(count) * step + low).reshape(count, 1), np.round((vectors[:, 0] - low) / step)
    different, inverse = np.unique(vectors, axis=0, return_inverse=True)
    if len(different) <= count:
        return _padded(different, count), inverse.reshape(-1)
    if size == 1:
        centers, labels = cluster_values(vectors.reshape(-1), count)
        return _padded(centers.reshape(-1, 1), count), labels
    return _clustered(vectors, count)


def _clustered(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # its sums depend on the number of threads
        found = KMeans(count, init="k-means++", tol=1e-2, n_init=1, random_state=0).fit(vectors)
    return np.asarray(found.cluster_centers_), np.asarray(found.labels_)


def _padded(table: np.ndarray, count: int) -> np.ndarray:
    return np.pad(table, ((0, count - len(table)), (0, 0)))


def _bits_for(parts: list[np.ndarray], size: int) -> int | None:
    most = max(len(np.unique(_vectors(part, size), axis=0)) for part in parts)
    return next((bits for bits in _BITS if most <= 1 << bits), None)


def _sparse(form: Form, step: Palettize) -> Form | str:
    """One table for the values of a sparse weight."""
    if step.granularity != "per_tensor" or step.cluster_dim > 1 or step.enable_per_channel_scale:
        return "sparse values are palettized with one table of single values"
    assert form.mask is not None, "a sparse weight has a mask"
    values = form.dense[form.mask]
    bits = step.nbits if step.mode != "unique" else _bits_for([values], 1)
    if bits is None:
        return "more than 256 different values, and `unique` loses none"
    table, indices = _table(values.reshape(-1, 1), step.mode, bits)
    palette = Palette(
        indices=np.ascontiguousarray(indices, dtype=np.uint8),
        table=table.reshape(1, 1 << bits, 1).astype(form.dense.dtype),
        bits=bits,
        axis=0,
    )
    dense = np.zeros_like(form.dense)
    dense[form.mask] = lookup(palette)
    return replace(form, palette=palette, dense=dense)
