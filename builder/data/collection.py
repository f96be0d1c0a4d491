"""Samples in an order that is always the same, made one by one, so that any number of pictures fits into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from builder.artifacts.stages import Sample
from builder.data.streams import stream
from builder.data.wording import shown_count
from builder.errors import SourceError


class Samples(Sequence[Sample]):
    """Samples that are made when somebody asks for one."""

    def __init__(
        self,
        count: int,
        make: Callable[[int], Sample],
        *,
        kind: str,
        available: int | None = None,
        digest: Callable[[], str] | None = None,
    ) -> None:
        """`available` is how many the user's data has in all; None for data that comes along."""
        self._count, self._make, self._kind, self.available = count, make, kind, available
        self._digest = digest

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        """Return one sample, or several; raises SourceError for one that is not what the inputs declare."""
        places = range(self._count)[index]
        return self._make(places) if isinstance(places, int) else tuple(self._make(place) for place in places)

    def first(self, count: int | None) -> Samples:
        """The first `count` of them; all where that is None, or more than there are."""
        if count is None or count >= self._count:
            return self
        return Samples(count, self._make, kind=self._kind, available=self.available)

    @property
    def kind(self) -> str:
        """The kind of data."""
        return self._kind

    def described(self, used: int | None = None) -> Mapping[str, Any]:
        """What the record keeps: the kind of data, how many samples in figures and words, and a digest of them.

        `used` is how many were taken before the budget ended; the digest is of these.
        """
        count = self._count if used is None else used
        whole = self._digest is not None and count == self._count
        digest = self._digest() if whole and self._digest is not None else samples_digest(self[:count])
        found = {"kind": self._kind, "samples": count, "digest": digest}
        if self.available is not None:
            found["available"] = self.available
        return {**found, "description": shown_count(self._kind, count, self.available)}


def samples_digest(samples: Iterable[Sample]) -> str:
    """`sha256:` over names, dtypes, shapes and values of all tensors, and labels, in order."""
    digest = hashlib.sha256()
    for sample in samples:
        for name, tensor in sample.tensors.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        if sample.label is not None:
            digest.update(f"label {sample.label!r}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def chosen(
    available: int, count: int | None, seed: int, *, kind: str, what: str, key: str, shuffled: bool = False
) -> Sequence[int]:
    """Return which of the samples to take: all in their order, or `count` of them (or all, `shuffled`) in seeded order.

    Raises SourceError when there are none, or fewer.
    """
    if available == 0:
        raise SourceError(f"{what} has no samples", code="B0333", key=key)
    if count is None and not shuffled:
        return range(available)
    if count is not None and count > available:
        raise SourceError(f"{what} has {available} samples, and {count} are asked for", code="B0333", key=key)
    order: list[int] = stream(seed, 0, kind).permutation(available)[:count].tolist()
    return order


def as_label(value: object) -> str | int:
    """A label of Python, NumPy or torch as text or a number; raises TypeError for what is neither."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bool) or not isinstance(plain, int | str):
        raise TypeError(f"a label is the name of a class or its number, and this is of {type(value).__name__}")
    return plain
