"""Where builds are recorded for people to compare: a closed union by `kind`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from builder.spec.base import Part

_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
"""What MLflow keeps runs in; its file store is gone since version 3."""


def _alias(value: str) -> str:
    """Refuse what MLflow reserves (mlflow.utils.validation)."""
    if not re.fullmatch(r"[A-Za-z0-9_\-]+", value) or value.lower() == "latest" or re.fullmatch(r"[vV]\d+", value):
        raise ValueError("must be letters, digits, - and _, and neither `latest` nor `v` with a number")
    return value


def _uri(value: str) -> str:
    """Refuse what MLflow has no store for, before a build is made."""
    scheme = value.partition(":")[0].partition("+")[0]
    if scheme not in _SCHEMES or ":" not in value:
        raise ValueError(f"must begin with one of {', '.join(f'{s}:' for s in _SCHEMES)}")
    return value


class NoTracking(Part):
    """Builds are recorded in `build.json` only."""

    kind: Literal["none"]


class MlflowTracking(Part):
    """Builds are sent to MLflow through an outbox, after the build."""

    kind: Literal["mlflow"]
    uri: Annotated[str, AfterValidator(_uri)] | None = None
    """The tracking server; null takes `MLFLOW_TRACKING_URI`, else sqlite in `outputs/`."""
    experiment: Annotated[str, Field(min_length=1)] = "builder"
    register_as: Annotated[str, Field(pattern=r"^[^/:]+$")] | None = None
    """A name in the MLflow model registry, under which the artifact of each passing build becomes a new version."""
    alias: Annotated[str, AfterValidator(_alias)] = "newest"
    """The alias that the newest registered version gets."""
    required: bool = False
    """Wait until the run is sent, and fail with exit code 7 when it cannot be."""


Tracking = Annotated[NoTracking | MlflowTracking, Field(discriminator="kind")]
