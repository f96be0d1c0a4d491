"""Import packages that only some sources need, and say how to install the one that is missing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import UnfitEnvironmentError


@contextmanager
def optional_packages(extra: str) -> Iterator[None]:
    """Turn an ImportError within the block into UnfitEnvironmentError naming `pip install 'coreml-builder[extra]'`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that deprecate what they themselves use
            yield
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        message = f"there is no package {error.name}" if missing else str(error)
        raise UnfitEnvironmentError(
            f"{message}, which this recipe needs ({extra})",
            code="B0701",
            hint=f"pip install 'coreml-builder[{extra}]'",
            key="source.kind",
        ) from error
