"""The weights of a Core AI program: constants of floats with two axes or more, and who computes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.backends.coreai import adapter
from builder.backends.coreai.modules import LEAST, STORAGE

if TYPE_CHECKING:
    from builder.backends.coreai.adapter import Program

_PASSES_ON = ("transpose", "reshape", "cast", "expand_dims", "shrink_dims", "broadcast_in_dims")
_AS_MIL = {
    "batch_matmul": {"matmul", "linear"},
    "broadcasting_batch_matmul": {"matmul", "linear"},
    "conv2d": {"conv"},
    "conv3d": {"conv"},
    "conv_transpose2d": {"conv_transpose"},
    "conv_transpose3d": {"conv_transpose"},
    "gather_nd": {"gather"},
    "gather_along_axis": {"gather"},
}
"""How MIL calls the operators: recipes for both formats name types as MIL does."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A constant that a step may choose."""

    name: str
    """Of the parameter that it holds, or of its first user."""
    place: int
    """Its number among all constants of the program."""
    size: int
    types: frozenset[str]
    """The operators that use it, by Core AI's names and MIL's."""
    channels: tuple[int, int] | None
    """The axes of its output and input channels; None where users disagree."""

    @property
    def names(self) -> frozenset[str]:
        """All names by which a recipe can choose it."""
        return frozenset({self.name, self.name.removesuffix(".weight")})


def find_weights(program: Program) -> list[Weight]:
    """The weights of all functions, in the order of the program."""
    found = []
    for place, op in enumerate(adapter.constants(program)):
        result = op.results[0]
        if not adapter.is_float(result) or len(adapter.shape_of(result)) < 2 or adapter.count_of(result) < LEAST:
            continue
        name = adapter.resource_name(op)
        users = list(adapter.final_users(op, _PASSES_ON))
        if any(user.name in STORAGE for user in users):
            continue  # a part of what is compressed already
        types = {user.name for user in users}
        found.append(
            Weight(
                name=name or adapter.user_name(op),
                place=place,
                size=adapter.count_of(result),
                types=frozenset(types.union(*(_AS_MIL.get(kind, set()) for kind in types))),
                channels=_channels(users),
            )
        )
    return found


def _channels(users: list[adapter.User]) -> tuple[int, int] | None:
    """The axes of output and input channels, as all users have them."""
    found = {_channels_of(user) for user in users}
    return found.pop() if len(found) == 1 else None


def _channels_of(user: adapter.User) -> tuple[int, int]:
    """For convolutions (out, in, …), transposed ones (in, out, …), and products (…, in, out) through any transpose."""
    if "conv_transpose" in user.name:
        axes = 1, 0
    elif user.name.endswith("batch_matmul"):
        last, before = len(user.order) - 1, len(user.order) - 2
        axes = (last, before) if user.operand == 1 else (before, last)
    else:
        axes = 0, 1
    return user.order[axes[0]], user.order[axes[1]]
