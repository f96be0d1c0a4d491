"""What all parts of a BuildSpec share: frozen, closed pydantic models and the limits of a check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Part(BaseModel):
    """A frozen part of a recipe in which an unknown key is an error and nothing is coerced from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


def _import_path(value: str) -> str:
    module, _, name = value.partition(":")
    if not module or not name or not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise ValueError("must be written as package.module:function")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _feature_name(value: str) -> str:
    if not value.isidentifier():
        raise ValueError("must be a name of letters, digits and _ that does not begin with a digit")
    return value


# fmt: off
RESERVED_NAMES = frozenset({
    "any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string", "state",
    "bf16", "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
})
# fmt: on
"""Words of MIL's own syntax, which no input, output or state of an artifact can be called.

From `NameSanitizer` of coremltools 9.0, converters/mil/mil/passes/defs/preprocess.py, which appends `_workaround`.
"""


@dataclass(frozen=True)
class IsImportPath:
    """Marks a field whose text names user code, for the store to find."""


ImportPath = Annotated[str, AfterValidator(_import_path), IsImportPath()]
"""`package.module:function`, the one door through which user code enters."""


@dataclass(frozen=True)
class IsFile:
    """Marks a field whose text names a file, for the configuration room to find, and the store."""


FilePath = Annotated[str, AfterValidator(_not_empty), IsFile()]
"""A path; relative ones are sought beside the YAML file that names them, then in the working directory."""

FeatureName = Annotated[str, AfterValidator(_feature_name)]
"""The name of an input or output, as Core ML and Swift accept it."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest in hexadecimal."""

PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Where random numbers begin; torch and numpy both take all of these."""

Arguments = dict[str, Any]
"""Keyword arguments for a factory: plain YAML values."""


class Limit(Part):
    """The bounds of one measured value; both may be given, a missing one does not bound."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _some_value_holds(self) -> Limit:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs min, max or both: without them it would hold whatever was measured")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no value is at least {self.min:g} and at most {self.max:g}")
        return self

    def holds(self, value: float) -> bool:
        """Whether `value` is inside the bounds; NaN never is."""
        if value != value:
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


def resolve_file(path: str, folder: str | None) -> Path:
    """Return where `path` lies: absolute, beside `folder` (of the YAML that names it), or in the working directory."""
    candidate = Path(path).expanduser()
    if candidate.is_absolute() or folder is None:
        return candidate
    beside = Path(folder) / candidate
    return beside if beside.exists() else candidate
