"""Make imports of heavy modules wait until somebody uses them, within one `with` block and without lasting changes.

A deferred module is in `sys.modules` under its own name, with its own spec, and runs its code on the first access to
anything that the code defines. Whoever imports it later therefore gets the real module.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()
_TRIGGERS = ("__path__", "__all__", "__version__")
"""Dunder names that are defined by a module's code; others are probed by debuggers and `inspect` and are left alone."""


class DeferredModule(ModuleType):
    """A module whose code has not run yet."""

    def __getattr__(self, name: str) -> Any:
        """Run the module's code, then answer; Python calls this for missing attributes only."""
        if name.startswith("__") and name not in _TRIGGERS:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        state = self.__dict__
        with _LOCK:
            if "_deferred_path" in state:
                self._run()
        if name in state:
            return state[name]
        if "__getattr__" in state:
            return state["__getattr__"](name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def _run(self) -> None:
        path = self.__dict__.pop("_deferred_path")
        if path is not None:
            self.__dict__["__path__"] = path
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        try:
            spec.loader.exec_module(self)
        except BaseException:
            self.__dict__.pop("__path__", None)
            self.__dict__["_deferred_path"] = path
            raise
        object.__setattr__(self, "__class__", ModuleType)


class _DeferringLoader(Loader):
    """Creates the module and leaves its code for later."""

    def __init__(self, real: Loader) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return DeferredModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self.real
        module.__dict__["_deferred_path"] = module.__dict__.pop("__path__", None)


class _HookingLoader(Loader):
    """Runs a module's code inside a context."""

    def __init__(self, real: Loader, around: Callable[[], Any]) -> None:
        self.real = real
        self.around = around

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self.real
        with self.around():
            self.real.exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the named modules with a loader of ours, and nothing else."""

    def __init__(self, wrap: Mapping[str, Callable[[Loader], Loader]]) -> None:
        self.wrap = wrap
        self.thread = threading.get_ident()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Answer for the thread that opened the block only."""
        if fullname not in self.wrap or threading.get_ident() != self.thread:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = self.wrap[fullname](spec.loader)
        return spec


@contextmanager
def _finding(wrap: Mapping[str, Callable[[Loader], Loader]]) -> Iterator[None]:
    finder = _Finder(wrap)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Defer those of the named modules that are imported in this block for the first time."""
    with _finding(dict.fromkeys(names, _DeferringLoader)):
        yield


@contextmanager
def around_import(name: str, context: Callable[[], Any]) -> Iterator[None]:
    """Run the code of module `name`, if it is imported in this block, inside the given context."""
    with _finding({name: lambda real: _HookingLoader(real, context)}):
        yield


@contextmanager
def placeholder(name: str, attributes: Mapping[str, object]) -> Iterator[None]:
    """Let `from name import attribute` give these attributes in this block, unless `name` is imported already."""
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.__dict__.update(attributes)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


@contextmanager
def absent(name: str) -> Iterator[None]:
    """Let an import of `name` in this block raise ModuleNotFoundError, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # how Python itself notes a module that must not be imported
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def paused_collector() -> Iterator[None]:
    """Keep the cyclic garbage collector from walking the many objects that are being made; they all stay alive."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def import_frozen(name: str) -> bool:
    """Import a large module, and keep the collector from walking what there is then, until `gc.unfreeze`.

    False, and nothing is done, where the module is there, or somebody froze objects before.
    """
    if name in sys.modules or gc.get_freeze_count():
        return False
    with paused_collector():
        importlib.import_module(name)
    gc.freeze()
    return True
