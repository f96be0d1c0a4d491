"""In which floating-point type the artifact computes: a closed union by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Part


class Fp32(Part):
    """Everything computes in float32."""

    kind: Literal["fp32"]


class Fp16(Part):
    """Everything computes in float16, except image normalisation."""

    kind: Literal["fp16"]


class Mixed(Part):
    """float16, except the operators named here, which stay in float32."""

    kind: Literal["mixed"]
    fp32_op_types: list[str] = []
    """Glob patterns of MIL operator types, such as `reduce_*`; each must match an operator of the program."""
    fp32_names: list[str] = []
    """Glob patterns of MIL operator output names, as the artifact has them in float32; each must match one. For Core AI
    the names of operators in the exported program, such as `softmax_3`, which `auto` finds."""
    fp32_modules: list[str] = []
    """Glob patterns of module paths of the PyTorch model, such as `features.0.*`; each must match one."""
    fp32_op_types_if_present: list[str] = []
    """MIL operator types that stay in float32 where the program has them, and that may be missing."""


class AutoPrecision(Part):
    """float16, except the fewest operators that must compute in float32 for all checks to pass, found by measuring.

    What is found is `mixed` with `fp32_names`; it stands in the record, and as a recipe beside the artifact.
    """

    kind: Literal["auto"]


Precision = Annotated[Fp32 | Fp16 | Mixed | AutoPrecision, Field(discriminator="kind")]
