"""What to do about an obstacle: which rewrites are worth a try, what is written instead, and why nothing helps."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils import parametrize

from builder.backends.coreml.preflight.obstacles import Obstacle, Remedy
from builder.model.substitutions.entry import Entry
from builder.model.substitutions.table import REWRITES

_LEVELS = 2
"""How far above the module of an operator a rewrite is sought."""


def candidates(model: torch.nn.Module, obstacle: Obstacle) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Each shipped rewrite, the exact ones first, that applies to modules above every site; with their paths."""
    modules = dict(model.named_modules())
    sites = [site.module for site in obstacle.sites]
    if not sites or any(path not in modules for path in sites):
        return
    for kind, entry in sorted(REWRITES.items(), key=lambda item: not item[1].exact):
        found = [_nearest(path, modules, entry) for path in sites]
        if all(path is not None for path in found):
            yield kind, tuple(dict.fromkeys(path for path in found if path is not None))


def _nearest(path: str, modules: Mapping[str, torch.nn.Module], entry: Entry) -> str | None:
    parts = path.split(".") if path else []
    for depth in range(len(parts), max(-1, len(parts) - _LEVELS - 2), -1):
        above = ".".join(parts[:depth])
        if _applies(modules[above], entry):
            return above
    return None


def _applies(module: torch.nn.Module, entry: Entry) -> bool:
    if entry.tree is not None:  # of parametrizations, which any module may have
        return parametrize.is_parametrized(module)
    types = {t if isinstance(t, str) else f"{t.__module__}:{t.__qualname__}" for t in entry.types}
    return f"{type(module).__module__}:{type(module).__qualname__}" in types and entry.only(module)


def substitution(kind: str, modules: Sequence[str]) -> Remedy:
    """A shipped rewrite of these modules."""
    exactness = "exact" if REWRITES[kind].exact else "approximate: see docs/reference/substitutions.md"
    listed = ", ".join(f'"{path}"' for path in modules)
    return Remedy(
        kind="substitution",
        summary=f"replace the module by {kind} ({exactness})",
        paste=f"substitutions:\n  {kind}: {{modules: [{listed}]}}",
    )


def other_method(method: str) -> Remedy:
    """Another method of capture."""
    return Remedy(kind="method", summary=f"capture by {method}", paste=f"capture: {{method: {method}}}")


def named_target(name: str, artifact_format: str) -> Remedy:
    """A later target."""
    lines = [f"target: {{name: {name}}}", *(["format: mlpackage"] if artifact_format != "mlpackage" else [])]
    return Remedy(kind="target", summary=f"build for {name} or later, which has it", paste="\n".join(lines))


_WRITE_INSTEAD: Mapping[tuple[str, str], str] = {
    ("in_place", "*"): "assign the result instead, `x[…] = value`, which builder keeps",
    ("rank", "*"): "reshape and permute in steps of at most 5 dimensions, or merge dimensions that stay together",
    ("dtype", "*"): "compute with integers below 2**31, or with floats",
    ("refused", "sqrt"): "write `.float()` before the square root: Core ML has it for floats only",
    ("refused", "rsub"): "write `y - alpha * x`",
    ("refused", "add"): "write `x + alpha * y`",
    ("refused", "sub"): "write `x - alpha * y`",
    ("bug", "rsub"): "write `y - alpha * x`",
    ("bug", "add"): "write `x + alpha * y`",
    ("bug", "sub"): "write `x - alpha * y`",
    ("bug", "pow"): "write `torch.exp(x * math.log(2))`",
    ("bug", "exp2"): "write `torch.exp(x * math.log(2))`",
    ("bug", "tri?"): "write `torch.where(mask, x, 0)` with a mask of booleans",
    ("bug", "arg*"): "write `x.flatten().argmax(0)`, or argmin",
    (
        "sizes",
        "*",
    ): "compute the same at every size (pad by `h % 2` instead of only where h is odd), or let the app choose "
    "only sizes at which it goes one way: `enumerated_shapes`, or other ends of the range",
    ("values", "*"): "write a branch as `torch.where` over both results, so that Python reads no value",
}
"""By rule and pattern of the operator: what the model's own code can say."""

_NO_COUNTERPART: Mapping[str, str] = {
    "linalg_* svd *_eig* eig* cholesky* qr *det* logdet slogdet inverse lstsq pinverse matrix_exp lu_*": (
        "Core ML has no decompositions of matrices"
    ),
    "fft_* stft istft": "Core ML has no Fourier transform of this kind",
    "bernoulli* multinomial poisson* normal* exponential* rand*": "Core ML draws no random numbers of this kind",
    "histogram* bincount": "Core ML counts no values into bins",
    "grid_sampler*": "Core ML resamples bilinearly and by the nearest only",
    "lgamma digamma polygamma special_* igamma* i0* bessel*": "Core ML has no such special function",
    "cond while_loop map_impl scan": (
        "branches and loops of exported programs are not read (an `if` or a loop of Python, which "
        "`capture.method: script` keeps, is)"
    ),
    "view_as_complex view_as_real complex polar real imag angle": "Core ML has no complex numbers",
}
"""By patterns of operators, why there can be no lowering (or why nobody has written one)."""


def rewriting(obstacle: Obstacle) -> Remedy | None:
    """What to write in the model instead."""
    for (rule, pattern), message in _WRITE_INSTEAD.items():
        if rule == obstacle.rule and fnmatch.fnmatchcase(obstacle.operator or "", pattern):
            return Remedy(kind="rewrite", summary=message)
    return None


def reason(obstacle: Obstacle, *, has_modules: bool) -> Remedy:
    """That it is not convertible, and why; a file that holds a program alone `has_modules` of none to replace."""
    name = (obstacle.operator or "").strip("_")
    why = next(
        (message for patterns, message in _NO_COUNTERPART.items() if _matches(name, patterns)),
        "neither coremltools nor builder has a lowering for this case",
    )
    instead = ", or replace its module by one of your own (`kind: replace`)" if has_modules else ""
    return Remedy(kind="none", summary=f"not convertible, because {why}: compute it outside of the model{instead}")


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split())
