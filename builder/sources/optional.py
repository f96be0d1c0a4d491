"""Import packages that only some sources need, and say how to install the one that is missing."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from builder.errors import UnfitEnvironmentError


def import_optional(name: str, *, extra: str) -> Any:
    """Return the module `name`; raises UnfitEnvironmentError naming `pip install 'coreml-builder[extra]'`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that deprecate what they themselves use
            return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        said = f"the package {package} is not installed" if missing else f"{package} cannot be imported: {error}"
        raise UnfitEnvironmentError(
            f"a source of kind {extra} needs {package}, and {said}",
            hint=f"pip install 'coreml-builder[{extra}]'",
            key="source.kind",
        ) from error
