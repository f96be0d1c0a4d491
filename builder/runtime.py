"""The public names of `coreml_runtime`, a distribution of its own (`runtime/`), under the name that they had here.

What is not public is imported from `coreml_runtime` itself: there is one copy of the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import coreml_runtime

if TYPE_CHECKING:
    from coreml_runtime import (
        InputError,
        Model,
        ModelError,
        PredictionError,
        RuntimeFailure,
        State,
        UnsupportedError,
        install,
        load,
        uninstall,
    )

__all__ = [
    "InputError", "Model", "ModelError", "PredictionError", "RuntimeFailure", "State", "UnsupportedError", "install",
    "load", "uninstall",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Pass a name on, which imports what needs torch only when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(coreml_runtime, name)
