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

from builder.deferred import deferred, paused_collector, placeholder
from builder.errors import UnfitEnvironmentError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
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
                # Its own nms refuses to run without the compiled operators; this module asks for nms only.
                boxes: Any = importlib.import_module("torchvision.ops.boxes")
                boxes._assert_has_ops = lambda: None
            return importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        raise UnfitEnvironmentError(
            f"torchvision cannot be imported beside torch {torch.__version__}: {error}",
            hint="install the versions that constraints.txt pins",
        ) from error


def declare_missing_operators() -> None:
    """Give torch the operators that `import torchvision` asks for, unless torchvision's own compiled ones load.

    torchvision's wheels are compiled against CUDA builds of torch. Beside a CPU-only torch their operators cannot load
    and the import fails with "operator torchvision::nms does not exist" (pytorch/vision#8504 and others). Its Python
    code asks for these two only. Delete this when torchvision imports without its compiled operators.
    """
    with _LOCK:
        if _libraries or _has_operator("nms") or _load_compiled_operators():
            return
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call] # torch's own
        for schema in _SCHEMAS:
            library.define(schema)
        library.impl("nms", non_maximum_suppression, "CPU")
        _libraries.append(library)


def stands_in() -> bool:
    """Whether operators of ours stand in for compiled ones that did not load."""
    return bool(_libraries)


def non_maximum_suppression(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Return the indices of the boxes that stay, best score first, as int64 (K,).

    `dets` is (N, 4) as x1, y1, x2, y2 and `scores` is (N,). The best box removes all others whose intersection over
    union with it exceeds the threshold, then the next best that is left, and so on (torchvision.ops.nms).
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = dets[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    removed = torch.zeros(len(order), dtype=torch.bool)
    kept: list[int] = []
    for i in range(len(order)):
        if removed[i]:
            continue
        kept.append(i)
        top_left = torch.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        bottom_right = torch.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
        intersection = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        # As in the compiled operator the overlap is single precision and the threshold double: 0.2f exceeds 0.2.
        removed[i + 1 :] |= (intersection / (areas[i] + areas[i + 1 :] - intersection)).double() > iou_threshold
    return order[torch.tensor(kept, dtype=torch.int64)]


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
