"""Find the data files inside scikit-learn without importing it, which would cost a second."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from builder.errors import SourceError


def shipped_file(name: str) -> Path:
    """Return the path of `sklearn/datasets/<name>`; raises SourceError when it is not there."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise SourceError("the data of checks comes with scikit-learn, which is not installed", code="B0330")
    path = Path(spec.origin).parent / "datasets" / name
    if not path.is_file():
        raise SourceError(
            f"scikit-learn's data file {path} is missing", code="B0301", hint="install scikit-learn again"
        )
    return path
