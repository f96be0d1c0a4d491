"""Where in the user's model something happened: from the frames of the stack, running or kept by an exception."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from builder.backends.coreml.preflight.obstacles import Site
from builder.backends.coreml.preflight.operators import frames_of_python, user_place


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


@contextmanager
def frozen_values(sites: Sites, into: list[tuple[Site, str]]) -> Iterator[None]:
    """Collect where a trace takes a value of this run for good: a branch, a number, a length.

    torch's own TracerWarning does not tell a value from a size, which is the same in every run.
    """

    def noting(read: Callable[..., Any], what: str) -> Callable[..., Any]:
        def noted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if torch._C._get_tracing_state() is not None and _depends_on_values(_traced(tensor)):
                into.append((sites.of_frame(sys._getframe(1)), what))
            return read(tensor, *args, **kwargs)

        return noted

    before = {name: vars(torch.Tensor).get(name) for name in _READS}
    for name, what in _READS.items():
        setattr(torch.Tensor, name, noting(getattr(torch.Tensor, name), what))
    try:
        yield
    finally:
        for name, original in before.items():
            if original is None:
                delattr(torch.Tensor, name)
            else:
                setattr(torch.Tensor, name, original)


def told_frozen(frozen: Iterable[tuple[Site, str]]) -> tuple[str, ...]:
    """Each kind of value and place once, as text that names no folder of this machine."""
    return tuple(
        f"{what} in {Path(site.place.file).name}:{site.place.line}, `{site.place.text}`"
        if site.place is not None
        else f"{what} in {site.module or 'the model itself'}"
        for site, what in dict.fromkeys(frozen)
    )


def _traced(tensor: torch.Tensor) -> Any:
    return torch._C._get_value_trace(tensor)  # type: ignore[attr-defined]  # torch declares it nowhere


_SIZES = frozenset({"aten::size", "aten::dim", "aten::numel", "aten::len", "prim::Constant", "prim::GetAttr"})
"""Where a value that is the same in every run comes from."""


def _depends_on_values(value: Any) -> bool:
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
