"""Reorders the constant weights of convolutions and linear layers once, at their first use, as oneDNN wants them.

Without this torch reorders at each call, or takes another library: on processors without AVX-512 in MKL a packed linear
layer took 0.43 of the time, a 3 x 3 convolution of 512 channels 0.47, measured with torch 2.13 on one thread.
The reordered weight replaces the original; half-precision weights pass through one shared buffer on their way. It is
done by the first prediction because it takes more than half of the time that loading would (ViT-B/16: 0.2 of 0.3 s).
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from coreml_runtime.binding import Argument, Bound, Known, Slot, bind_arguments
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Kernel
from coreml_runtime.packed import FORMS, WITH_ACTIVATION, Reorder

_RELEASED_EVERY = 64 << 20
"""Bytes of originals after which their pages are given back."""
_KEPT_BY_GLIBC = 31 << 20
"""Bytes of a block whose release raises glibc's threshold for giving memory back to twice as much, its highest.

Without it the memory of large values goes to the system after each operator and is cleared again for the next, which
took 0.05 to 0.25 of a prediction (MobileNetV2, ViT-B/16). See M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in mallopt(3).
"""


_PACKS: ContextVar[bool] = ContextVar("packs", default=True)


@contextmanager
def without_packing() -> Iterator[None]:
    """Leave weights as they are, in all that is planned inside: what is traced must show them as the file has them."""
    token = _PACKS.set(False)
    try:
        yield
    finally:
        _PACKS.reset(token)


def packs() -> bool:
    """Whether what is planned now is only executed, so that it may be rearranged."""
    return _PACKS.get()


def available() -> bool:
    """Whether weights are packed at all: by this build of torch, on this processor, for what is planned now."""
    return packs() and _is_built()


@cache
def _is_built() -> bool:
    """Whether this build of torch has the operators, on a processor where they were measured."""
    return (
        platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no annotation here
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    )


_PREPARE = FORMS
"""By form of a weight, what tells whether it serves; see `packed.FORMS`."""
_TRIED = {"linear": ("linear",), "conv": ("small", "pointwise", "conv")}
"""The forms of an operation's weight, the first that serves is taken."""
_WHERE_SHAPES_CHANGE = {"linear": "linear", "conv": "conv"}
"""The form that serves inputs of every shape."""


@dataclass(kw_only=True)
class Packer:
    """Packs the weights of one program, each when it is first needed, through one buffer.

    `release` gives back the memory of the originals that are mapped files; it is called now and then on the way.
    """

    release: Callable[[], None]
    _buffer: Tensor = field(default_factory=lambda: torch.empty(0))
    _waiting: int = 0
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pack(
        self, type_: str, kernel: Kernel, given: Mapping[str, tuple[Argument, ...]], x: TensorType | None, where: str
    ) -> tuple[Kernel, Bound] | None:
        """A faster kernel and its arguments, or None where the operation has to stay as it is.

        `x` is the declared type of the argument x: only known shapes are packed for.
        """
        weight = given.get("weight", ())
        if type_ not in _TRIED or not available() or len(weight) != 1 or not isinstance(weight[0], Known):
            return None
        source = given.get("x", ())
        if x is None or None in x.shape or len(source) != 1 or not isinstance(source[0], Slot):
            return None
        outline = weight[0].outline
        if outline is None or not _fits(outline, weight[0].dtype):
            return None
        bound = bind_arguments(kernel, {**given, "weight": (Known(outline),)}, where)
        if [name for name, _ in bound.tensors] != ["x"] or bound.groups or bound.converted:
            return None
        shape = tuple(size or 0 for size in x.shape)
        tried = ((form, _PREPARE[form](outline.shape, shape, bound.known)) for form in _TRIED[type_])
        form, prepared = next(((form, found) for form, found in tried if found is not None), ("", None))
        if prepared is None:
            return None
        self.expect()
        lazy = PrepackedKernel(
            kernel=prepared[0], packer=self, reorder=prepared[1], original=weight[0], activates=form in WITH_ACTIVATION
        )
        return lazy, Bound(known={}, tensors=bound.tensors, groups=(), converted=(), context=False)

    def expect(self) -> None:
        """Count a weight that is to be packed: memory is given back when the last one was."""
        self._waiting += 1

    def reordered(self, lazy: PrepackedKernel) -> Tensor:
        """The packed weight of `lazy`, which gives its original up."""
        with self._lock:
            if lazy.original is None:
                assert lazy.packed is not None
                return lazy.packed
            raw = lazy.original.raw
            lazy.packed = packed = lazy.reorder(self._float32(raw))
            lazy.original = None
            self._bytes += raw.nbytes
            self._waiting -= 1
            if self._waiting == 0:
                self._buffer = torch.empty(0)
                _give_back_freed_memory()
            if self._waiting == 0 or self._bytes > _RELEASED_EVERY:
                self._bytes = 0
                self.release()
            return packed

    def _float32(self, raw: Tensor) -> Tensor:
        if raw.dtype is torch.float32:
            return raw
        if self._buffer.numel() < raw.numel():
            self._buffer = torch.empty(raw.numel())
        return self._buffer[: raw.numel()].reshape(raw.shape).copy_(raw)


def _give_back_freed_memory() -> None:
    """Return the holes that originals left to the system; glibc keeps them, up to 0.4 times the weights of ViT-B/16."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if platform.system() == "Linux" else None
    if trim is not None:
        trim(0)
        torch.empty(_KEPT_BY_GLIBC, dtype=torch.uint8)


@dataclass(kw_only=True, slots=True, eq=False)
class PrepackedKernel:
    """Calls `kernel` with a weight that is packed by the first call; either `original` or `packed` is None.

    `activates` tells whether a call takes the keyword `activation`, one of the values of `packed.ACTIVATIONS`.
    """

    kernel: Kernel
    packer: Packer
    reorder: Reorder
    original: Known | None
    packed: Tensor | None = None
    fresh: bool = True
    activates: bool = False

    def __call__(self, *, x: Tensor, **activation: object) -> Tensor:
        """The operation on x, and an activation."""
        packed = self.packed
        weight = self.packer.reordered(self) if packed is None else packed
        result: Tensor = self.kernel(x=x, weight=weight, **activation)
        return result


class ShapeSpecializedKernel:
    """An operation on a constant weight and on inputs whose shape only its calls tell.

    The first call packs the weight for the shape of its input; oneDNN takes it for other shapes too.
    `plain` is the operation on the weight as it is, with the keywords `x`, `weight` and those of `arguments`.
    """

    def __init__(
        self, type_: str, plain: Kernel, weight: Known, arguments: Mapping[str, object], packer: Packer
    ) -> None:
        """Nothing is read yet."""
        self._type, self._plain, self._arguments, self._packer = type_, plain, arguments, packer
        outline = weight.outline
        self._packs = available() and outline is not None and _fits(outline, weight.dtype)
        self._size = torch.Size() if outline is None else outline.shape
        self._weight: Known | PrepackedKernel = weight
        self._lock = threading.Lock()
        self._kernel: tuple[torch.Size | None, Kernel | None] = (None, None)
        if self._packs:
            packer.expect()

    def __call__(self, x: Tensor, **given: object) -> Tensor:
        """The operation on x; `given` are arguments that depend on its shape."""
        shape, kernel = self._kernel
        if shape != x.shape:
            kernel = self._prepared(x.shape, given)
        weight = self._weight
        if isinstance(weight, Known):
            whole = weight.value
        else:
            packed = self._packer.reordered(weight) if weight.packed is None else weight.packed
            if kernel is not None:
                result: Tensor = kernel(x=x, weight=packed)
                return result
            whole = packed.to_dense().reshape(self._size)  # for inputs that are empty, or do not fit
        plain: Tensor = self._plain(x=x, weight=whole, **self._arguments, **given)
        return plain

    def _prepared(self, shape: torch.Size, given: Mapping[str, object]) -> Kernel | None:
        """The kernel for an input of this shape; None if it has to be the plain one."""
        form = _WHERE_SHAPES_CHANGE[self._type]
        prepared = _PREPARE[form](self._size, shape, {**self._arguments, **given}) if self._packs else None
        if prepared is None:
            return None
        kernel, reorder = prepared
        with self._lock:
            if isinstance(self._weight, Known):
                self._weight = PrepackedKernel(
                    kernel=kernel, packer=self._packer, reorder=reorder, original=self._weight
                )
        self._kernel = (shape, kernel)
        return kernel


def _fits(outline: Tensor, dtype: torch.dtype | None) -> bool:
    """Whether it is held in float32, which half-precision weights are not where all is native."""
    kept = outline.dtype if dtype is None else dtype
    return kept is torch.float32 and outline.dtype in (torch.float32, torch.float16)
