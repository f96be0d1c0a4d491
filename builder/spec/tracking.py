"""Where builds are recorded for people to compare: a closed union by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Part


class NoTracking(Part):
    """Builds are recorded in `build.json` only."""

    kind: Literal["none"]


class MlflowTracking(Part):
    """Builds are sent to MLflow through an outbox, after the build."""

    kind: Literal["mlflow"]
    uri: str | None = None
    """The tracking server; null takes `MLFLOW_TRACKING_URI`, else sqlite in `outputs/`."""
    experiment: str = "builder"
    required: bool = False
    """Wait until the run is sent, and fail with exit code 7 when it cannot be."""


Tracking = Annotated[NoTracking | MlflowTracking, Field(discriminator="kind")]
