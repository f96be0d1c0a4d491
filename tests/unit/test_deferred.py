"""Deferred imports run on first use and leave nothing behind."""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.util.lazy_import import (
    DeferredModule,
    absent,
    around_import,
    deferred,
    import_frozen,
    paused_collector,
    placeholder,
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package `heavy_thing` with a submodule; its code counts how often it ran."""
    folder = tmp_path / "heavy_thing"
    folder.mkdir()
    (folder / "__init__.py").write_text("import sys\nsys.heavy_runs = getattr(sys, 'heavy_runs', 0) + 1\nvalue = 3\n")
    (folder / "inner.py").write_text("from heavy_thing import value\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "heavy_runs", 0, raising=False)
    yield "heavy_thing"
    for name in [n for n in sys.modules if n.startswith("heavy_thing")]:
        del sys.modules[name]


def _runs() -> int:
    return int(getattr(sys, "heavy_runs"))  # noqa: B009 - the attribute is the test's own


def test_the_code_runs_on_first_use_and_once(package: str) -> None:
    # given a module that was imported deferred
    before = list(sys.meta_path)
    with deferred(package):
        module = importlib.import_module(package)
    assert (_runs(), type(module), sys.meta_path) == (0, DeferredModule, before)
    # when inspect looks over all modules, then the code does not run
    inspect.getmodule(object())
    assert _runs() == 0
    # when a name is used, then the code has run, once, and the module is an ordinary one
    assert module.value == module.value == 3
    assert (_runs(), type(module).__name__) == (1, "module")
    assert importlib.import_module(package) is module


def test_importing_a_part_runs_the_whole_first(package: str) -> None:
    with deferred(package):
        module = importlib.import_module(package)
    assert importlib.import_module("heavy_thing.inner").value == 3
    assert _runs() == 1
    assert module.inner.value == 3


def test_a_name_that_is_not_there_is_an_attribute_error(package: str) -> None:
    with deferred(package):
        module = importlib.import_module(package)
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_code_that_fails_runs_again_at_the_next_use(package: str, tmp_path: Path) -> None:
    # given a module that cannot be imported
    code = tmp_path / package / "__init__.py"
    code.write_text("raise RuntimeError('broken')\n")
    with deferred(package):
        module = importlib.import_module(package)
    # when it is used, then its own error comes, each time
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            _ = module.value


def test_a_context_surrounds_the_code(package: str) -> None:
    # given a placeholder for what the module imports, only while its code runs
    entered = []

    def context() -> object:
        entered.append(package)
        return placeholder("heavy_thing_needs", {"x": 1})

    with around_import(package, context):
        importlib.import_module(package)
    assert entered == [package]
    assert "heavy_thing_needs" not in sys.modules


def test_a_placeholder_never_hides_a_module_that_is_there() -> None:
    with placeholder("json", {"loads": None}):
        import json
    assert json.loads("1") == 1


def test_the_collector_is_on_again_after_an_error() -> None:
    inside: list[bool] = []

    def fail_inside() -> None:
        with paused_collector():
            inside.append(gc.isenabled())
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail_inside()
    assert inside == [False]
    assert gc.isenabled()


def test_an_absent_module_cannot_be_imported_until_later(package: str) -> None:
    with absent(package), pytest.raises(ModuleNotFoundError):
        importlib.import_module(package)
    assert importlib.import_module(package).value == 3
    with absent(package):
        assert importlib.import_module(package).value == 3


def test_what_is_imported_for_good_is_not_walked_until_it_is_unfrozen(package: str) -> None:
    gc.unfreeze()  # what earlier tests left
    try:
        assert import_frozen(package)
        assert (_runs(), gc.get_freeze_count() > 0, gc.isenabled()) == (1, True, True)
        # a module that is there, or objects that somebody froze, are left as they are
        assert not import_frozen(package)
        assert not import_frozen("some_module_that_is_not_there")
    finally:
        gc.unfreeze()
