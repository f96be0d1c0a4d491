"""A Core ML runtime in torch: loads a saved `.mlpackage`, `.mlmodel` or `.aimodel` and predicts, on any machine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coreml_runtime.errors import InputError, ModelError, PredictionError, RuntimeFailure, UnsupportedError

if TYPE_CHECKING:
    from coreml_runtime.model import Model, State, load
    from coreml_runtime.patching import install, uninstall

__all__ = [
    "InputError", "Model", "ModelError", "PredictionError", "RuntimeFailure", "State", "UnsupportedError", "install",
    "load", "uninstall",
]  # fmt: skip
__version__ = "0.1.0"

_LAZY = {
    "load": "coreml_runtime.model",
    "Model": "coreml_runtime.model",
    "State": "coreml_runtime.model",
    "install": "coreml_runtime.patching",
    "uninstall": "coreml_runtime.patching",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
