"""Apple's own loader of packages, which ships in coremltools: what it refuses is not published, built or restored."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from builder.errors import UnfitEnvironmentError

_LIBRARY = "coremltools.libmodelpackage"


def why_refused(package: Path) -> str | None:
    """What Apple's loader says against an `.mlpackage`: a manifest that it cannot read, or a part that is missing.

    None where it opens the package, whose files stay as they are.
    """
    library = _library().ModelPackage
    try:
        if not package.is_dir():
            return "it is not a folder"
        if library.isValid(str(package)):
            return None
        library(str(package)).getRootModel()  # says what isValid does not
    except RuntimeError as error:
        return str(error)
    return "it is not a valid package"


@cache
def _library() -> Any:
    """The library alone where coremltools is not imported yet: it needs nothing of it, and takes 0.02 s.

    Raises UnfitEnvironmentError where coremltools is missing or was installed without its native libraries.
    """
    if _LIBRARY in sys.modules:
        return sys.modules[_LIBRARY]
    package = importlib.util.find_spec("coremltools")
    folders = [] if package is None else [Path(folder) for folder in package.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.glob("libmodelpackage*.so"))
    spec = importlib.util.spec_from_file_location(_LIBRARY, files[0]) if files else None
    if spec is None or spec.loader is None:
        raise UnfitEnvironmentError(
            "coremltools has no libmodelpackage, which opens packages",
            code="B0702",
            hint="install coremltools from a wheel, in the version that constraints.txt pins",
        )
    library: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    return library
