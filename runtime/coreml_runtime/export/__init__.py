"""A Core ML model as a `torch.export.ExportedProgram`: its operators, traced through the kernels of the runtime."""

from __future__ import annotations

from coreml_runtime.export.program import Exported, export

__all__ = ["Exported", "export"]
