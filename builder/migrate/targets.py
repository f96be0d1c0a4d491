"""The formats that a Core ML file can become: what each needs, writes and is executed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.migrate.original import Inputs
from builder.migrate.proof import Engine
from builder.util.lazy import call
from coreml_runtime.dtypes import Precision
from coreml_runtime.export import Exported


@dataclass(frozen=True, kw_only=True)
class Target:
    """One format. `write`, `open` and `check` are `package.module:function`."""

    name: str
    title: str
    write: str
    """(exported, inputs, destination) -> notes for the user."""
    open: str
    """(exported, path) -> engines that execute the file."""
    check: str | None = None
    """() -> None; raises UnfitEnvironmentError, with the command, where something is not installed."""
    draws: bool = False
    """Whether its engine draws the random numbers that the runtime draws, given the same generator."""
    precision: Precision = "native"
    """What the program is traced in: a format that casts by itself takes float32."""

    @property
    def suffix(self) -> str:
        """How files of it end."""
        return f".{self.name}"

    def check_installed(self) -> None:
        """Raise UnfitEnvironmentError where what it needs is not installed."""
        if self.check is not None:
            call(self.check, {})

    def write_file(self, exported: Exported, inputs: Inputs, destination: Path) -> Sequence[str]:
        """Write the file; what the user has to know of it."""
        notes: Sequence[str] = call(self.write, {"exported": exported, "inputs": inputs, "destination": destination})
        return notes

    def engines(self, exported: Exported, path: Path) -> Sequence[Engine]:
        """What executes the file on this machine, the one that takes all samples first."""
        found: Sequence[Engine] = call(self.open, {"exported": exported, "path": path})
        return found


TARGETS = (
    Target(
        name="pt2",
        title="torch.export, for PyTorch, ExecuTorch and AOTInductor",
        write="builder.migrate.pt2:write",
        open="builder.migrate.pt2:engines",
        draws=True,
    ),
    Target(
        name="onnx",
        title="ONNX, for onnxruntime and others",
        write="builder.migrate.onnx:write",
        open="builder.migrate.onnx:engines",
        check="builder.migrate.onnx:check_installed",
    ),
    Target(
        name="aimodel",
        title="Core AI, for iOS 27 and later",
        write="builder.migrate.aimodel:write",
        open="builder.migrate.aimodel:engines",
        check="builder.backends.coreai.installed:check_installed",
        precision="fast",
    ),
)
"""In the order in which help lists them."""


def target_named(name: str) -> Target:
    """The format of that name; raises KeyError for another."""
    return {target.name: target for target in TARGETS}[name]
