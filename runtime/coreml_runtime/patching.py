"""Makes `coremltools.models.MLModel` predict with this runtime where Apple's framework is missing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from coreml_runtime.dtypes import Precision
from coreml_runtime.errors import RuntimeFailure
from coreml_runtime.model import Model, State, load

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from coremltools.models import MLModel

_MODEL_MODULE = "coremltools.models.model"
_UTILS_MODULE = "coremltools.models.utils"

# What coremltools is told when it asks which macOS runs: the newest that its own checks know of.
_MACOS = (15, 5)

# Newer than any specification version of coremltools 9 (iOS26 is 10); what we lack is named when a model is loaded.
_NEWEST_SPECIFICATION = 1000


class StateProxy:
    """What `MLState` wraps: our state, with the errors that coremltools documents."""

    def __init__(self, state: State) -> None:
        self.state = state

    def read_state(self, name: str) -> np.ndarray:
        """A copy of the value as numpy array; RuntimeError for an unknown name."""
        try:
            return self.state.read_state(name)
        except RuntimeFailure as error:
            raise RuntimeError(str(error)) from error

    def write_state(self, name: str, value: object) -> None:
        """Replace the value; RuntimeError for an unknown name or another shape."""
        try:
            self.state.write_state(name, value)
        except RuntimeFailure as error:
            raise RuntimeError(str(error)) from error


class Proxy:
    """Stands in for `_MLModelProxy`, coremltools' native class that loads and runs a model with Apple's framework.

    Compute units and optimization hints are accepted and have no effect. Failures are RuntimeErrors, as Apple's are.
    """

    precision: Precision = "half"

    def __init__(
        self,
        path: str,
        compute_units: str = "ALL",
        function_name: str = "",
        optimization_hints: dict[str, str] | None = None,
        asset: object = None,
    ) -> None:
        del compute_units, optimization_hints
        if asset is not None:
            raise RuntimeError("a compiled model asset cannot be loaded without Apple's framework")
        started = time.perf_counter_ns()
        try:
            self.model: Model = _load(path, function_name, self.precision)
        except RuntimeFailure as error:
            raise RuntimeError(str(error)) from error
        self._load_duration = time.perf_counter_ns() - started
        self._predict_duration: int | None = None

    @staticmethod
    def maximum_supported_specification_version() -> int:
        """Any: a model that is too new fails with the names of what is missing."""
        return _NEWEST_SPECIFICATION

    def predict(self, data: dict[str, object], state: StateProxy | None = None) -> dict[str, object]:
        """One prediction."""
        started = time.perf_counter_ns()
        try:
            return self.model.predict(data, state=None if state is None else state.state)
        except RuntimeFailure as error:
            raise RuntimeError(str(error)) from error
        finally:
            self._predict_duration = time.perf_counter_ns() - started

    def batchPredict(self, data: list[dict[str, object]]) -> list[dict[str, object]]:  # noqa: N802 - the native class's name
        """One prediction after the other."""
        return [self.predict(each) for each in data]

    def newState(self) -> StateProxy:  # noqa: N802 - the native class's name
        """Fresh states, all zero."""
        return StateProxy(self.model.make_state())

    def get_load_duration_in_nano_seconds(self) -> int:
        """How long reading and planning took."""
        return self._load_duration

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        """How long the last prediction took; None before the first."""
        return self._predict_duration

    def get_compiled_model_path(self) -> str:
        """There is none: nothing is compiled to a file."""
        raise RuntimeError("this model runs without Apple's framework, so there is no compiled model")


def _load(path: str, function_name: str, precision: Precision) -> Model:
    """The model; "main" is what coremltools calls the only function of a model that has no functions."""
    if function_name != "main":
        return load(path, function=function_name or None, precision=precision)
    from coreml_runtime.package import open_package

    package = open_package(path)
    named = any(function.name == "main" for function in package.specification.description.functions)
    from coreml_runtime.model import build_model

    return build_model(package, function="main" if named else None, precision=precision)


class _Patch:
    """The replaced attributes of coremltools, so that they can be put back."""

    def __init__(self) -> None:
        self._originals: list[tuple[object, str, object]] = []

    def replace(self, owner: object, name: str, value: object) -> None:
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        while self._originals:
            owner, name, value = self._originals.pop()
            setattr(owner, name, value)


class _Hook(MetaPathFinder):
    """Patches coremltools' model module right after it is first imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if name != _MODEL_MODULE:
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader)
        return spec


class _PatchingLoader(Loader):
    """Loads as the real loader does, then patches."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _patch_model_module(module)


_patch = _Patch()
_hook = _Hook()


def install(precision: Precision = "half") -> None:
    """Let `MLModel.predict`, `make_state` and all that coremltools builds on them work on this machine.

    Before or after coremltools is imported; calling it again only sets the precision. `MLModel` stays the same class,
    and models made before can predict as well. Where Apple's framework is present this does nothing.
    """
    Proxy.precision = precision
    if _hook in sys.meta_path:
        return
    sys.meta_path.insert(0, _hook)
    module = sys.modules.get(_MODEL_MODULE)
    if module is not None and hasattr(module, "MLModel"):
        _patch_model_module(module)


def uninstall() -> None:
    """Put back what `install` replaced. Models that were loaded in between keep their runtime."""
    if _hook in sys.meta_path:
        sys.meta_path.remove(_hook)
    _patch.undo()


def _patch_model_module(module: ModuleType) -> None:
    if module._MLModelProxy is not None:
        return
    _patch.replace(module, "_MLModelProxy", Proxy)
    _patch.replace(module, "_macos_version", lambda: _MACOS)
    utils = sys.modules.get(_UTILS_MODULE)
    if utils is not None:
        _patch.replace(utils, "_macos_version", _careful(utils._macos_version))
    cls = module.MLModel
    _patch.replace(cls, "_get_proxy_and_spec", _remembering(cls._get_proxy_and_spec))
    _patch.replace(cls, "predict", _predicting(cls.predict))
    _patch.replace(cls, "make_state", _make_state(module))


def _careful(original: Callable[[], object]) -> Callable[[], object]:
    """Once told that this is macOS, coremltools asks the program sw_vers; here there is none."""

    def macos_version() -> object:
        try:
            return original()
        except Exception:
            return _MACOS

    return macos_version


def _remembering(original: Callable[..., tuple[object, ...]]) -> Callable[..., tuple[object, ...]]:
    """Note whether a model was made with skip_model_load: such a model is not to predict."""

    def _get_proxy_and_spec(self: MLModel, *arguments: object, **keywords: object) -> tuple[object, ...]:
        self._builder_skipped = bool(keywords.get("skip_model_load", False))
        return original(self, *arguments, **keywords)

    return _get_proxy_and_spec


def _ensure_proxy(model: MLModel) -> None:
    """Give a model that was made before `install` its runtime."""
    if model.__proxy__ is not None or hasattr(model, "_builder_skipped"):
        return
    from coremltools.models.utils import save_spec

    path = model.package_path
    if path is not None:
        model.__proxy__ = Proxy(path, function_name=model.function_name or "")
        return
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        save_spec(model.get_spec(), f"{folder}/model.mlmodel")
        model.__proxy__ = Proxy(f"{folder}/model.mlmodel")


def _predicting(original: Callable[..., object]) -> Callable[..., object]:
    def predict(self: MLModel, data: object, state: object = None) -> object:
        _ensure_proxy(self)
        return original(self, data, state)

    predict.__doc__ = original.__doc__
    return predict


def _make_state(module: ModuleType) -> Callable[[MLModel], object]:
    """The original refuses on any other system than macOS 15."""

    def make_state(self: MLModel) -> object:
        _ensure_proxy(self)
        if self.__proxy__ is None:
            raise RuntimeError("This model was not loaded with the Core ML Framework. Cannot get state.")
        return module.MLState(self.__proxy__.newState())

    make_state.__doc__ = module.MLModel.make_state.__doc__
    return make_state
