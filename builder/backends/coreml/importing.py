"""Import coremltools without the third of it that a conversion never uses, and without its noise on the terminal."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

from builder.errors import UnfitEnvironmentError
from builder.model.torchvision_import import declare_missing_operators
from builder.util.lazy_import import absent, around_import, deferred, paused_collector, placeholder

_DEFERRED = ("coremltools.optimize.torch", "scipy.sparse")
"""Training-time compression pulls in torch's distributed tensors; neither is used by a conversion."""

_NATIVE_LIBRARIES = ("libmilstoragepython", "libmodelpackage")

_LOG = logging.getLogger("builder.coremltools")


def import_coremltools() -> ModuleType:
    """Return coremltools, imported in a fifth of the usual time; its messages go to the log at level DEBUG.

    Everything that is left out is imported when somebody first uses it. Raises UnfitEnvironmentError when coremltools
    is missing or was installed without its native libraries.
    """
    if (known := sys.modules.get("coremltools")) is not None:
        return known
    try:
        with quick_import():
            module = importlib.import_module("coremltools")
    except ImportError as error:
        raise UnfitEnvironmentError(
            f"coremltools cannot be imported: {error}",
            code="B0702",
            hint="install the versions that constraints.txt pins",
        ) from error
    _check_native_libraries(module)
    return module


@contextmanager
def quick_import() -> Iterator[None]:
    """Within the block, whoever imports coremltools first leaves out what a conversion never uses."""
    with ExitStack() as scoped:
        scoped.enter_context(paused_collector())
        scoped.enter_context(messages_to_log("coremltools"))
        scoped.enter_context(deferred(*_DEFERRED))
        scoped.enter_context(around_import("coremltools._deps", _probed_packages))
        yield


@contextmanager
def _probed_packages() -> Iterator[None]:
    """Answer `coremltools._deps`, which imports packages only to see whether they are there, without importing them.

    It reads the version of scikit-learn and nothing of the others. torchvision counts as there, so its import must
    work from now on: `coremltools.optimize.torch` relies on it. torchao does not: its import brings in torch's compiler
    (4 s), and coremltools needs it only for models that torchao quantised.
    """
    with ExitStack() as scoped:
        for name, distribution in {"sklearn": "scikit-learn", "transformers": "", "torchvision": ""}.items():
            if name in sys.modules or (spec := importlib.util.find_spec(name)) is None:
                continue
            if name == "torchvision":
                declare_missing_operators()
            version = importlib.metadata.version(distribution) if distribution else ""
            scoped.enter_context(placeholder(name, {"__version__": version, "__spec__": spec}))
        scoped.enter_context(absent("torchao"))
        yield


def _check_native_libraries(coremltools: ModuleType) -> None:
    """Raise where pip installed coremltools' pure Python wheel, which cannot write weights (apple/coremltools#2695)."""
    for name in _NATIVE_LIBRARIES:
        try:
            importlib.import_module(f"{coremltools.__name__}.{name}")
        except ImportError as error:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise UnfitEnvironmentError(
                f"coremltools {coremltools.__version__} was installed without its native library {name} ({error})",
                code="B0702",
                hint=f"it has none for Python {version} on this machine; use Python 3.11 on Linux x86-64 or macOS",
            ) from error


class _ToLog(logging.Handler):
    """Repeats what another logger says at level DEBUG."""

    def emit(self, record: logging.LogRecord) -> None:
        _LOG.debug("%s: %s", record.name, record.getMessage())


@contextmanager
def messages_to_log(logger_name: str) -> Iterator[None]:
    """Send what the logger and its children say to our log instead of the terminal."""
    logger = logging.getLogger(logger_name)
    handler, propagate = _ToLog(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
