"""The shapes that modules see on the examples, for rewrites that fix a size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from builder.errors import ConversionError

Run = Callable[[torch.nn.Module], tuple[torch.Tensor, ...]]
"""Runs a module on all examples and returns its outputs, flattened."""
Size = tuple[int, ...]


def sizes_seen(
    root: torch.nn.Module, places: Iterable[tuple[str, torch.nn.Module]], run: Run, *, spatial: Callable[[Any], int]
) -> dict[int, Size]:
    """Run the examples and return the size, the last `spatial(module)` dimensions, that each module gets, by its id.

    `root` must hold the modules of `places`. Raises ConversionError for one that gets several sizes, or is not run.
    """
    paths: dict[int, str] = {}
    modules: dict[int, torch.nn.Module] = {}
    for path, module in places:
        paths.setdefault(id(module), path)
        modules[id(module)] = module
    seen: dict[int, set[Size]] = {key: set() for key in modules}

    def note(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else next(iter(kwargs.values()))
        seen[id(module)].add(tuple(int(n) for n in x.shape[max(0, x.dim() - spatial(module)) :]))

    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in modules.values()]
    try:
        run(root)
    finally:
        for hook in hooks:
            hook.remove()
    return {key: _only(sizes, paths[key]) for key, sizes in seen.items()}


def refuse_other_size(x: torch.Tensor, size: Size) -> None:
    """Raise ValueError when the last dimensions of x are not the ones that a rewrite fixed."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # torch
    if not tracing and tuple(x.shape[x.dim() - len(size) :]) != size:
        raise ValueError(f"a substitution fixed this layer at size {size}, and it gets {tuple(x.shape)}")


def _only(sizes: set[Size], path: str) -> Size:
    where = path or "the root"
    if not sizes:
        raise ConversionError(
            f"{where} does not run on the examples, so there is no size to fix it at",
            code="B0407",
            hint="exclude it with `modules`",
        )
    if len(sizes) > 1:
        raise ConversionError(
            f"{where} gets several sizes, and only one can be fixed: {', '.join(map(str, sorted(sizes)))}",
            code="B0407",
            hint="exclude it with `modules`",
        )
    return next(iter(sizes))
