"""What sources share: loading a state dict into a module, and the digest of a module's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from builder.errors import SourceError


def module_digest(module: torch.nn.Module) -> str:
    """`sha256:` over names, dtypes, shapes and values of all parameters and buffers, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor!r}\n".encode())
            continue
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return f"sha256:{digest.hexdigest()}"


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, file: str, key: str) -> None:
    """Copy `state` into `module`, all of it; raises SourceError naming what is missing, left over or misshapen."""
    own = module.state_dict()
    problems = [
        *_some("missing in the file", sorted(own.keys() - state.keys())),
        *_some("unknown to the model", sorted(state.keys() - own.keys())),
        *_some(
            "of another shape",
            [
                f"{name} {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
                for name in sorted(own.keys() & state.keys())
                if state[name].shape != own[name].shape
            ],
        ),
    ]
    if problems:
        raise SourceError(
            f"the weights in {file} do not fit the model: {'; '.join(problems)}",
            hint=_prefix_hint(own.keys(), state.keys()),
            key=key,
        )
    module.load_state_dict(dict(state), strict=True)


def _some(what: str, names: list[str], most: int = 4) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{len(names)} {what} ({', '.join(names[:most])}{more})"]


def _prefix_hint(own: object, given: object) -> str:
    names, keys = set(map(str, own)), set(map(str, given))  # type: ignore[call-overload]  # key views
    for prefix in ("module.", "model.", "_orig_mod.", "net."):
        if {k.removeprefix(prefix) for k in keys if k.startswith(prefix)} & names:
            return f"the keys begin with `{prefix}`: write `strip_prefix: {prefix}` under source (kind checkpoint)"
    return "check the factory's arguments (such as num_classes) against the training run"
