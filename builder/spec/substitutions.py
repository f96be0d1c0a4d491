"""Rewrites of the module tree: a closed union by `kind`, in the order in which the recipe names them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import ImportPath, Limit, Part


class Selection(Part):
    """Which modules a rewrite applies to: those that match all that is given."""

    modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Glob patterns of module paths, such as `features.*.conv.*`; every path unless given."""
    optional: bool = False
    """Whether matching nothing is fine; otherwise it is an error."""
    effect: Limit | None = None
    """Limits on the largest absolute change of any output that this rewrite alone causes."""


class ReplaceModules(Selection):
    """Replace modules of one type by what a factory makes."""

    kind: Literal["replace"]
    type: ImportPath | None = None
    """The module type to replace, such as `torch.nn:ReLU6`."""
    replacement: ImportPath
    """Called with the old module when it has one parameter, else without; returns the new module."""


class Relu6ToRelu(Selection):
    """ReLU6 becomes ReLU: values over 6 are no longer clipped, so it is approximate."""

    kind: Literal["relu6_to_relu"]


Substitution = Annotated[ReplaceModules | Relu6ToRelu, Field(discriminator="kind")]
