"""The one place that obtains Core ML's protobuf classes, without the seconds that `import coremltools` costs.

coremltools ships the generated modules in `coremltools/proto`. They only import each other, relatively, so they load
under a private package name that points at that folder; protobuf gives the same message classes for the same
descriptors, whichever name they were loaded by, so coremltools may be imported earlier, later or never.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from builder.runtime.errors import UnsupportedError

_PACKAGE = "builder.runtime._coremltools_proto"


@cache
def messages(name: str) -> Any:
    """The generated module `name`: "Model_pb2", "MIL_pb2", "FeatureTypes_pb2", "NeuralNetwork_pb2" or another."""
    if "coremltools.proto" in sys.modules:
        return importlib.import_module(f"coremltools.proto.{name}")
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(_folder())]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{name}")


def _folder() -> Path:
    """Where coremltools keeps the generated modules; finding a top-level package does not run it."""
    found = importlib.util.find_spec("coremltools")
    if found is None or not found.submodule_search_locations:
        raise UnsupportedError("coremltools is not installed: it ships the definition of the file format")
    return Path(found.submodule_search_locations[0]) / "proto"
