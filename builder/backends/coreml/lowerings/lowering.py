"""What the table of lowerings holds. Nothing heavy is imported, so that `doctor` can list it at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode

Var = Any
"""A variable of a MIL program, `coremltools.converters.mil.mil.Var`; what is annotated so stays one."""

Builder = Any
"""`coremltools.converters.mil.Builder`, always called `mb`, as coremltools itself does."""

Size = Any
"""The size of an axis: an `int`, or a variable of rank 0 where only the app knows it."""
Sizes = Any
"""A list of sizes, or a variable (N,) that holds them."""
Constant = Any
"""An argument of torch's that is a constant: a number, a text, None, or a list of such."""
Unused: TypeAlias = object
"""An argument of torch's that changes nothing in the result."""

Convert: TypeAlias = "Callable[[TranscriptionContext, InternalTorchIRNode], None]"
"""A lowering as coremltools has it: adds to the program what a node computes."""


@dataclass(frozen=True, kw_only=True)
class UpstreamBug:
    """What coremltools' own lowering gets wrong, and where that is told."""

    issue: int | None
    """Of apple/coremltools; None where none was found that tells it."""
    summary: str
    """Completes `coremltools' own …`."""
    fixed_in: str | None = None
    """The first version of coremltools that is right: from there on ours steps aside."""


@dataclass(frozen=True, kw_only=True)
class Lowering:
    """How one torch operator is written in MIL.

    Without `lacks` and `wrong` coremltools has no such operator, and ours steps aside as soon as it has one.
    """

    operator: str
    """The name by which coremltools looks it up: lower case, without `aten`, overloads kept (`var_mean.correction`)."""
    lower: Callable[..., Var | tuple[Var, ...]]
    """Takes `mb` and torch's own arguments, and returns one variable for each result.

    What is annotated `Var` (or a sequence of it) is a variable of the program; all else a constant as a Python value.
    """
    upstream_gap: str | None = None
    """The cases that coremltools' own refuses; completes `coremltools' own lacks …`."""
    wrong: UpstreamBug | None = None
    applies: Callable[..., bool] | None = None
    """Whether this is such a case; coremltools' own lowering is used where it is not.

    Takes those of `lower`'s arguments, by their names, that it depends on, and `second_is_read`: whether the program
    takes the second result.
    """

    @property
    def why(self) -> str:
        """Why there is one of ours, for people."""
        if self.wrong is not None:
            issue = "" if self.wrong.issue is None else f" (apple/coremltools#{self.wrong.issue})"
            return f"coremltools' own {self.wrong.summary}{issue}"
        return "coremltools has none" if self.upstream_gap is None else f"coremltools' own lacks {self.upstream_gap}"


def by_operator(*families: tuple[Lowering, ...]) -> Mapping[str, Lowering]:
    """All families in one table. Raises ValueError where two entries have one operator."""
    found: dict[str, Lowering] = {}
    for lowering in (entry for family in families for entry in family):
        if lowering.operator in found:
            raise ValueError(f"there are two lowerings for {lowering.operator}")
        found[lowering.operator] = lowering
    return dict(sorted(found.items()))
