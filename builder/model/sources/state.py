"""What sources share: loading a state dict into a module, and the digest of a module's weights."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch.nn.parameter import is_lazy

from builder.errors import SourceError
from builder.util.text import first_of


def module_digest(module: torch.nn.Module) -> str:
    """`sha256:` over names, dtypes, shapes and values of all parameters and buffers, sorted by name.

    Raises SourceError for a tensor without values.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor!r}\n".encode())
            continue
        if is_lazy(tensor):
            raise SourceError(
                f"{name} of the model has no values: a lazy module gets them from its first inputs",
                code="B0318",
                hint="run the model once where it is made, on inputs of the sizes that the recipe declares, as "
                "`model(torch.zeros(1, 3, 224, 224))`",
                key="source",
            )
        if tensor.is_meta:
            raise SourceError(
                f"{name} of the model has no values: it was made on the device `meta`",
                code="B0318",
                hint="make the model where its weights are: `torch.device('cpu')`",
                key="source",
            )
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What `strict: false` allowed not to fit, by the names that the file and the model use."""

    unknown: tuple[str, ...] = ()
    """Entries of the file that the model has no place for."""
    missing: tuple[str, ...] = ()
    """Parameters and buffers that the file does not have: they stay as the factory made them."""


def load_state(
    module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, file: str, key: str, strict: bool = True
) -> LeftOut:
    """Copy `state` into `module` as torch does, its hooks for keys of older versions included; return what did not fit.

    Raises SourceError naming what is of another shape, and with `strict` also what is missing or left over.
    """
    own = module.state_dict()
    misshapen = {
        name: f"{name} {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if not _fits(state[name], own[name])
    }
    fitting = OrderedDict((name, value) for name, value in state.items() if name not in misshapen)
    fitting._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]  # the versions of modules
    try:
        found = module.load_state_dict(fitting, strict=False)
    except RuntimeError as error:  # of a shape that only a hook of the module's own could tell
        message = "; ".join(line.strip() for line in str(error).splitlines()[1:] if line.strip())
        raise SourceError(
            f"the weights in {file} do not fit the model: {message or error}", code="B0310", key=key
        ) from error
    missing = [name for name in found.missing_keys if name not in misshapen]
    problems = _some("of another shape", list(misshapen.values()))
    if strict:
        left = _some("missing in the file", missing), _some("unknown to the model", found.unexpected_keys)
        problems = [*left[0], *left[1], *problems]
    if problems:
        raise SourceError(
            f"the weights in {file} do not fit the model: {'; '.join(problems)}",
            code="B0310",
            hint=_hint(own.keys(), state.keys(), misshapen=misshapen, missing=missing),
            key=key,
        )
    return LeftOut(unknown=tuple(found.unexpected_keys), missing=tuple(found.missing_keys))


def take_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> bool:
    """Give copies of `state` to a module that was made on the device `meta`; False where filling it is something else.

    They must be all that it has, of the same dtypes and layouts. Where False is returned, the module is of no use.
    """
    own = module.state_dict()
    shared = len(list(module.named_parameters(remove_duplicate=False))) > len(list(module.parameters()))
    if shared or own.keys() != state.keys() or not all(_is_as(state[name], mine) for name, mine in own.items()):
        return False
    copies = OrderedDict((name, value.clone()) for name, value in state.items())  # of what is mapped from the file
    copies._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]  # the versions of modules
    try:
        module.load_state_dict(copies, assign=True)
    except RuntimeError:  # a hook of a module takes its state in another way
        return False
    return not any(_has_no_values(part) for part in module.modules())


def _is_as(given: torch.Tensor, own: torch.Tensor) -> bool:
    same = given.shape == own.shape and given.dtype == own.dtype and given.device.type == "cpu"
    return same and given.is_contiguous() and type(given) is torch.Tensor


def _has_no_values(part: torch.nn.Module) -> bool:
    """Whether a tensor of a module, or in an attribute of it, was made on the device `meta` and has stayed there."""
    waiting: list[object] = [value for name, value in vars(part).items() if name != "_modules"]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor) and value.is_meta:
            return True
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value
    return False


def _fits(given: torch.Tensor, own: object) -> bool:
    """Whether torch copies one into the other: of the same shape, a scalar from an array of one, or not known yet."""
    if not isinstance(own, torch.Tensor) or is_lazy(own):
        return True
    return given.shape == own.shape or (own.ndim == 0 and tuple(given.shape) == (1,))


def _some(what: str, names: list[str], most: int = 4) -> list[str]:
    return [f"{len(names)} {what} ({first_of(names, most)})"] if names else []


def _hint(own: Set[str], given: Set[str], *, misshapen: Mapping[str, str], missing: Sequence[str]) -> str:
    """What to change, by what does not fit."""
    for prefix in ("module.", "model.", "_orig_mod.", "net."):
        if {k.removeprefix(prefix) for k in given if k.startswith(prefix)} & own:
            return f"the keys begin with `{prefix}`: write `strip_prefix: {prefix}` under source"
    if misshapen:
        return "check the arguments of the model (sizes, number of classes) against the training run"
    if missing:
        return "compare the arguments of the model, and the version of its code, with the training run"
    return "where the model does not need them, write `strict: false` under source (kind checkpoint)"
