"""Where in the user's model something happened: from the frames of the stack, running or kept by an exception."""

from __future__ import annotations

import copy
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from builder.backends.coreml.preflight.obstacles import Site
from builder.backends.coreml.preflight.operators import frames_of_python, user_place

if TYPE_CHECKING:
    from builder.backends.coreml.lowerings.views import Value


class Sites:
    """Finds sites in one model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._paths = {id(module): path for path, module in reversed(list(model.named_modules()))}

    def of_error(self, error: BaseException) -> Site:
        """The innermost line of the user's that an exception, or what caused it, went through."""
        frames: list[FrameType] = []
        text = ""
        for cause in _causes(error):
            text += f"\n{cause}"
            traceback = cause.__traceback__
            passed = []
            while traceback is not None:
                passed.append((traceback.tb_frame, traceback.tb_lineno))
                traceback = traceback.tb_next
            place = user_place((frame.f_code.co_filename, line) for frame, line in reversed(passed))
            frames = [frame for frame, _ in reversed(passed)]
            if place is not None and (module := self._module(frames)) is not None:
                return Site(module=module, place=place)
        return Site(module=self._module(frames) or "", place=user_place(frames_of_python(text)))

    def of_frame(self, frame: FrameType | None) -> Site:
        """The site of a running frame."""
        frames, lines = [], []
        while frame is not None:
            frames.append(frame)
            lines.append((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        return Site(module=self._module(frames) or "", place=user_place(lines))

    def _module(self, frames: list[FrameType]) -> str | None:
        """The path of the innermost module whose method is on the stack; None where none of the model's is."""
        for frame in frames:
            path: str | None = self._paths.get(id(frame.f_locals.get("self")))
            if path is not None:
                return path
        return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The innermost cause first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return reversed(chain)


_READS = {
    "__bool__": "a branch on a tensor's value",
    "__int__": "a tensor's value as a number",
    "__index__": "a tensor's value as a number",
    "__float__": "a tensor's value as a number",
    "item": "a tensor's value as a number",
    "tolist": "a tensor's values as numbers",
    "numpy": "a tensor as a NumPy array",
}
"""The ways in which Python reads a tensor's value, by the methods that it calls."""


_READS_OF_SIZES = {
    "__bool__": "a branch on a size",
    **dict.fromkeys(("__int__", "__index__", "__float__", "item"), "a size as a number"),
}
"""The same where the tensor is a size, which a trace counts as one."""

_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True, kw_only=True)
class SizeRead:
    """A size that Python read while a model was traced, or a condition on sizes: the trace has what it was then."""

    site: Site
    what: str
    sizes: tuple[int, ...]
    """The sizes of tensors that it follows from."""
    result: float
    """What Python got."""


@contextmanager
def watch_trace_constants(
    sites: Sites, into: list[tuple[Site, str]], sizes: list[SizeRead] | None = None
) -> Iterator[None]:
    """Collect where a trace records a value of this run as a constant: a branch, a number, a length.

    torch's own TracerWarning does not tell a value from a size, which is the same in every run of one shape: those go
    into `sizes`, but for what torch's own functions read.
    """

    def noting(read: Callable[..., Any], name: str) -> Callable[..., object]:
        def noted(tensor: torch.Tensor, *args: object, **kwargs: object) -> object:
            result = read(tensor, *args, **kwargs)
            if torch._C._get_tracing_state() is None:
                return result
            frame, value = sys._getframe(1), _traced(tensor)
            if _depends_on_values(value):
                into.append((sites.of_frame(frame), _READS[name]))
            elif (
                sizes is not None
                and (what := _READS_OF_SIZES.get(name)) is not None
                and not frame.f_code.co_filename.startswith(_TORCH)
                and (below := _sizes_below(value))
            ):
                sizes.append(SizeRead(site=sites.of_frame(frame), what=what, sizes=below, result=float(result)))
            return result

        return noted

    before = {name: vars(torch.Tensor).get(name) for name in _READS}
    for name in _READS:
        setattr(torch.Tensor, name, noting(getattr(torch.Tensor, name), name))
    try:
        yield
    finally:
        for name, original in before.items():
            if original is None:
                delattr(torch.Tensor, name)
            else:
                setattr(torch.Tensor, name, original)


class Watch:
    """What a trace of one model recorded as constants, of the values of its first example and of its sizes."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.sites = Sites(model)
        self.values: list[tuple[Site, str]] = []
        self.sizes: list[SizeRead] = []
        self.differing: list[tuple[Site, str]] = []
        """Reads of sizes that give something else at a shape at which the trace is wrong."""
        self.branches: list[tuple[Site, str]] = []
        """Branches on sizes that the app may choose, which nothing showed to matter."""

    def again(self) -> Watch:
        """Another watch over the same model."""
        watch = copy.copy(self)
        watch.values, watch.sizes, watch.differing, watch.branches = [], [], [], []
        return watch

    def watching(self) -> AbstractContextManager[None]:
        """Collect what is read in this block."""
        return watch_trace_constants(self.sites, self.values, self.sizes)

    def compare(self, other: Watch, *, is_wrong: bool) -> None:
        """Note what the same code read in a trace of another shape; `is_wrong` says that this trace is wrong there."""
        ours, theirs = _by_site(sorted(self.sizes, key=_branches_first)), _by_site(other.sizes)
        for key, reads in ours.items():
            others = theirs.get(key, [])
            if is_wrong and [read.result for read in reads] != [read.result for read in others]:
                self.differing.append(key)
            varies = [read.sizes for read in reads] != [read.sizes for read in others]
            if not is_wrong and varies and key[1] == _READS_OF_SIZES["__bool__"] and not _only_refuses(key[0]):
                self.branches.append(key)


def _branches_first(read: SizeRead) -> bool:
    return read.what != _READS_OF_SIZES["__bool__"]


def _by_site(reads: Iterable[SizeRead]) -> dict[tuple[Site, str], list[SizeRead]]:
    found: dict[tuple[Site, str], list[SizeRead]] = {}
    for read in reads:
        found.setdefault((read.site, read.what), []).append(read)
    return found


def _only_refuses(site: Site) -> bool:
    """Whether a branch only raises an error: what the artifact does then, nobody can expect."""
    if site.place is None:
        return False
    below = linecache.getline(site.place.file, site.place.line + 1).strip()
    return site.place.text.startswith("assert ") or below.startswith("raise ")


def trace_constants(frozen: Iterable[tuple[Site, str]]) -> tuple[str, ...]:
    """Each kind of value and place once, as text that names no folder of this machine."""
    return tuple(
        f"{what} in {Path(site.place.file).name}:{site.place.line}, `{site.place.text}`"
        if site.place is not None
        else f"{what} in {site.module or 'the model itself'}"
        for site, what in dict.fromkeys(frozen)
    )


def _traced(tensor: torch.Tensor) -> Value:
    return torch._C._get_value_trace(tensor)  # type: ignore[attr-defined]  # torch declares it nowhere


_SIZES = frozenset({"aten::size", "aten::dim", "aten::numel", "aten::len", "prim::Constant", "prim::GetAttr"})
"""Where a value that is the same in every run comes from."""


def _sizes_below(value: Value) -> tuple[int, ...]:
    """The sizes of tensors that a traced number follows from, as they were in this trace."""
    seen, rest, found = set(), [value], []
    while rest:
        node = rest.pop(0).node()
        if node in seen:
            continue
        seen.add(node)
        if node.kind() in ("aten::size", "aten::numel"):
            tensor, *axis = node.inputs()
            sizes = tensor.type().sizes() if isinstance(tensor.type(), torch._C.TensorType) else None
            dimension = axis[0].toIValue() if axis else None
            found += [] if sizes is None else list(sizes) if dimension is None else [sizes[dimension]]
        else:
            rest += list(node.inputs())
    return tuple(found)


def _depends_on_values(value: Value) -> bool:
    """Whether a traced value comes from what the inputs hold, and not from their sizes alone."""
    seen, rest = set(), [value]
    while rest:
        node = rest.pop().node()
        if node in seen or node.kind() in _SIZES:
            continue
        if node.kind() == "prim::Param":
            return True
        seen.add(node)
        rest += list(node.inputs())
    return False
