"""Import torchvision where its compiled operators cannot load, and without what image models do not need."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from builder.errors import UnfitEnvironmentError
from builder.model.torchvision_operators import non_maximum_suppression, roi_align
from builder.util.lazy_import import deferred, paused_collector, placeholder

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)
_DEFERRED = ("torchvision.datasets", "torchvision.io")
"""Data sets and image files: 0.1 s that no model needs."""

_LOCK = threading.Lock()
_libraries: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Return torchvision, importable even beside a torch that its compiled operators were not built for.

    Raises UnfitEnvironmentError when it is not installed or does not fit torch in another way.
    """
    try:
        with ExitStack() as scoped:
            scoped.enter_context(paused_collector())
            scoped.enter_context(deferred(*_DEFERRED))
            scoped.enter_context(without_dynamo())
            declare_missing_operators()
            importlib.import_module("torchvision.models")
            if _libraries:
                _let_stand_ins_run()
            return importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        raise UnfitEnvironmentError(
            f"torchvision cannot be imported beside torch {torch.__version__}: {error}",
            code="B0702",
            hint="install the versions that constraints.txt pins",
        ) from error


def declare_missing_operators() -> None:
    """Give torch the operators that `import torchvision` asks for, unless torchvision's own compiled ones load.

    torchvision's wheels are compiled against CUDA builds of torch. Beside a CPU-only torch their operators cannot load
    and the import fails with "operator torchvision::nms does not exist" (pytorch/vision#8504 and others). Its Python
    code asks for the first two; detectors of two stages call the third. Delete this when torchvision imports without
    its compiled operators.
    """
    with _LOCK:
        if _libraries or _has_operator("nms") or _load_compiled_operators():
            return
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call] # torch's own
        for schema in _SCHEMAS:
            library.define(schema)
        library.impl("nms", non_maximum_suppression, "CPU")
        library.impl("roi_align", roi_align, "CPU")
        _libraries.append(library)


def _let_stand_ins_run() -> None:
    """Let torchvision's functions call operators of ours: they refuse to, or compile a formula, which takes minutes."""
    boxes: Any = importlib.import_module("torchvision.ops.boxes")
    pooling: Any = importlib.import_module("torchvision.ops.roi_align")
    boxes._assert_has_ops = pooling._assert_has_ops = lambda: None
    pooling.is_compile_supported = lambda _device: False


def stands_in() -> bool:
    """Whether operators of ours stand in for compiled ones that did not load."""
    return bool(_libraries)


@contextmanager
def without_dynamo() -> Iterator[None]:
    """Keep `import torchvision` from importing torch's compiler (0.8 s) for a function that only `roi_align` calls."""

    def is_compile_supported(device_type: str) -> Any:
        return importlib.import_module("torch._dynamo.utils").is_compile_supported(device_type)

    with placeholder("torch._dynamo.utils", {"is_compile_supported": is_compile_supported}):
        yield


def _has_operator(name: str) -> bool:
    return hasattr(torch.ops.torchvision, name)


def _load_compiled_operators() -> bool:
    """Load torchvision's own library, which defines the operators, as `import torchvision` would do first."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ImportError("torchvision is not installed")
    libraries = sorted(Path(spec.origin).parent.glob("_C*.so")) + sorted(Path(spec.origin).parent.glob("_C*.pyd"))
    try:
        for library in libraries:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call] # torch's own
    except OSError:
        return False
    return bool(libraries)
