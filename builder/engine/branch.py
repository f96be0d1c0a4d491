"""The stages that each function of an artifact has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.artifacts import CapturedProgram, CompressedModel, ConvertedModel, OriginalProgram, PreparedModel
from builder.engine.runner import Stage
from builder.spec import BuildSpec


@dataclass(frozen=True, kw_only=True)
class Branch:
    """From the prepared module to the compressed program; an artifact without functions has one branch."""

    spec: BuildSpec
    prepared: Stage[PreparedModel]
    captured: Stage[CapturedProgram]
    converted: Stage[ConvertedModel]
    compressed: Stage[CompressedModel]
    failures: Mapping[str, str]
    """Why the methods of capture that were tried first did not work."""

    def program(self, spec: BuildSpec) -> OriginalProgram:
        """What checks compare the artifact with; `spec` is what they may read of the recipe."""
        return OriginalProgram(spec=spec, prepared=self.prepared.value(), captured=self.captured.value())
