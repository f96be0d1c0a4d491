"""Rewrites of the module tree: a closed union by `kind`, in the order in which the recipe names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.base import ImportPath, Limit, Part
from builder.spec.substitution_kinds import NAMES

if TYPE_CHECKING:
    ShippedName = str
else:
    ShippedName = Literal[NAMES]


class Rewrite(Part):
    """What every substitution may say."""

    optional: bool = False
    """Whether matching nothing is fine; otherwise it is an error."""
    effect: Limit | None = None
    """Limits on the largest absolute change of any output that this rewrite alone causes.

    Unless given, an exact rewrite may change an output by 1e-4 of its largest value, an approximate one by anything.
    """


class Selection(Rewrite):
    """Which modules a rewrite applies to: those that match all that is given."""

    modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Glob patterns of module paths, such as `features.*.conv.*`; every path unless given.

    Each pattern has to match something, unless the rewrite is optional. A `*` matches dots as well, and the root's
    own path is empty.
    """
    type: ImportPath | None = None
    """Only modules of exactly this type, such as `torch.nn:ReLU6`; a subclass is another type."""


class ShippedRewrite(Selection):
    """A rewrite of builder's own library, described in docs/reference/substitutions.md.

    It applies to the types of torch that its description names, and not to their subclasses, whose forward may do
    something else: name such a subclass as `type` when it does not.
    """

    kind: ShippedName


class ReplaceModules(Selection):
    """Replace modules, by type, path or both, by what a factory of the user's makes."""

    kind: Literal["replace"]
    replacement: ImportPath
    """Called with the old module when it has one parameter, else without; returns the new module."""
    exact: bool = False
    """Whether the replacement computes the same, so that the limit of exact rewrites holds for it."""

    @model_validator(mode="after")
    def _selects(self) -> ReplaceModules:
        if self.type is None and self.modules is None:
            raise ValueError("needs `type`, `modules` or both, which say what is replaced")
        return self


class RewriteModel(Rewrite):
    """Hand the whole model to a function of the user's, which returns the one to build."""

    kind: Literal["rewrite"]
    function: ImportPath
    """Called with a copy of the model; returns the rewritten model, which may be the same object."""
    exact: bool = False
    """Whether the result computes the same, so that the limit of exact rewrites holds for it."""


Substitution = Annotated[ShippedRewrite | ReplaceModules | RewriteModel, Field(discriminator="kind")]
