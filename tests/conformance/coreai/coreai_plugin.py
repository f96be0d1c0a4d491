"""A pytest plugin under which Apple's own tests of coreai-torch run their assets on our runtime and on Apple's.

It is loaded by its bare name, because Apple's tests are a package `tests` as ours are.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import types
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

PASSED, FAILED, APPLE_FAILS, NOTHING_RAN, SKIPPED = (
    "passed", "failed", "fails on Apple's interpreter too", "ran no asset", "skipped",
)  # fmt: skip
LIMIT = {"float16": 2e-2, "float32": 2e-4}
"""How far ours may be from Apple's, of the output's largest value: sums in another order, some of them steep."""


class _AppleFailed(Exception):  # noqa: N818 - a reason, not an error of ours
    """Apple's interpreter refuses what the test gives it."""


class Seen:
    """What the running test did: assets that ran, and how far apart the two runtimes were at worst."""

    def __init__(self) -> None:
        """Nothing so far."""
        self.runs, self.worst, self.operators = 0, 0.0, set[str]()


SEEN = [Seen()]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("coreai conformance")
    group.addoption("--coreai-out", default="", help="write one JSON line a test to this file")
    group.addoption("--coreai-every", type=int, default=1, help="run every n-th test")
    group.addoption("--coreai-done", default="", help="leave out the tests that this file has results of")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    _import_torchvision()
    config.addinivalue_line("markers", "asyncio: a coroutine")
    _install()
    config.pluginmanager.register(Writer(config), "coreai-writer")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Tests of texts need the package `filecheck`; those that run assets only import it."""
    try:
        import filecheck  # noqa: F401
    except ImportError:
        for name, member in (("filecheck", ""), ("filecheck.matcher", "Matcher"), ("filecheck.options", "Options")):
            module = types.ModuleType(name)
            if member:
                setattr(module, member, _Missing)
            sys.modules[name] = module


def _import_torchvision() -> None:
    """Some tests import transformers, which imports torchvision, which lacks its operators beside a torch for CPUs."""
    from builder.model.torchvision_import import import_torchvision

    import_torchvision()


class _Missing:
    """Stands for a class of filecheck: the tests that use it are skipped."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Skip the test."""
        pytest.skip("compares texts of programs, which needs the package filecheck")


def _install() -> None:
    """Put our runtime beside Apple's wherever a test makes an asset executable."""
    from coreai.authoring import AIModelAsset
    from coreai.authoring.asset import AIProgram

    original = AIModelAsset.executable

    @asynccontextmanager
    async def executable(self: Any, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        async with original(self, *arguments, **options) as model:
            yield Both(model, Path(self.path))

    AIModelAsset.executable = executable
    if not hasattr(AIProgram, "optimize"):  # gone since 1.0.0b3, where conversion optimises; the tests still call it
        AIProgram.optimize = lambda self: None


class Both:
    """A loaded model of Apple's, and ours of the same asset."""

    def __init__(self, apple: Any, path: Path) -> None:
        """Wrap Apple's."""
        self.apple, self.path = apple, path

    def load_function(self, name: str) -> BothFunction:
        """A function of both."""
        return BothFunction(self.apple.load_function(name), self.path, name)


class BothFunction:
    """Runs Apple's interpreter, then ours on the same values; returns ours."""

    def __init__(self, apple: Any, path: Path, name: str) -> None:
        """Load ours."""
        from coreml_runtime import load

        self.apple, self.desc = apple, apple.desc
        self.ours = load(path, function=name)
        SEEN[0].operators |= {step.type for step in self.ours.network.plan.block.steps}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.apple, name)

    async def __call__(self, inputs: Any, state: Any = None, **others: Any) -> Any:
        """The outputs by name."""
        from coreai.runtime import NDArray

        given = {name: _plain(each) for name, each in inputs.items()}
        kept = self.ours.make_state() if self.ours.states else None
        for name in self.ours.states:
            kept.write_state(name, _plain(state[name]))  # type: ignore[union-attr]  # there are states
        try:
            expected = await self.apple(inputs=inputs, state=state or {}, **others)
        except Exception as error:
            raise _AppleFailed(str(error)) from error
        expected = {name: each.numpy().copy() for name, each in expected.items()}
        found = self.ours.predict(given, state=kept)
        SEEN[0].runs += 1
        assert sorted(found) == sorted(expected), f"outputs {sorted(found)}, Apple's {sorted(expected)}"
        for name, each in expected.items():
            _compare(name, found[name], each)
        for name in self.ours.states:
            _compare(name, kept.read_state(name), _plain(state[name]))  # type: ignore[union-attr]  # there are states
        return {name: NDArray(found[name].astype(each.dtype)) for name, each in expected.items()}


def _plain(array: Any) -> np.ndarray[Any, Any]:
    """An NDArray as numpy; numpy has no name for bfloat16."""
    found = array.numpy()
    return np.array(found.astype(np.float32) if found.dtype.name == "bfloat16" else found)


def _compare(name: str, ours: np.ndarray[Any, Any], apples: np.ndarray[Any, Any]) -> None:
    assert ours.shape == apples.shape, f"output {name}: shape {ours.shape}, Apple's {apples.shape}"
    limit = LIMIT.get(apples.dtype.name, 2e-2 if apples.dtype.name == "bfloat16" else 0.0)
    wide = np.complex128 if apples.dtype.kind == "c" else np.float64
    limit = 2e-4 if apples.dtype.kind == "c" else limit
    a, b = ours.astype(wide), apples.astype(wide)
    differs = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not differs.any():
        return
    finite = np.abs(b[np.isfinite(b)])
    size = max(float(finite.max()) if finite.size else 0.0, 1e-3)
    error = np.abs(a - b)[differs]
    worst = float(np.max(np.where(np.isfinite(error), error, np.inf))) / size
    SEEN[0].worst = max(SEEN[0].worst, worst)
    assert worst <= limit, f"output {name}: {worst:.3g} of the range from Apple's ({apples.dtype})"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


class Writer:
    """Chooses the tests, seeds each by its name, writes what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        """Open the file."""
        self.config = config
        self.out = Path(config.getoption("--coreai-out")).open("a", encoding="utf-8")  # noqa: SIM115

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        done = set()
        if self.config.getoption("--coreai-done"):
            lines = Path(self.config.getoption("--coreai-done")).read_text(encoding="utf-8").splitlines()
            done = {json.loads(line)["test"] for line in lines}
        items[:] = [item for item in items[:: self.config.getoption("--coreai-every")] if item.nodeid not in done]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        SEEN[0] = Seen()
        torch.manual_seed(sum(item.nodeid.encode()))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
        report = yield
        if report.when != "call" and report.outcome == "passed":
            return report
        seen, detail = SEEN[0], ""
        if report.outcome == "skipped":
            kind = SKIPPED
        elif report.outcome == "passed":
            kind = PASSED if seen.runs else NOTHING_RAN
        else:
            detail = f"{call.excinfo.typename}: {call.excinfo.value}"[:400] if call.excinfo else ""
            kind = APPLE_FAILS if _apples_fault(call) else FAILED
        line = {
            "test": item.nodeid, "kind": kind, "detail": detail, "worst": seen.worst,
            "operators": sorted(seen.operators),
        }  # fmt: skip
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()
        return report

    def pytest_unconfigure(self) -> None:
        self.out.close()


def _apples_fault(call: pytest.CallInfo[None]) -> bool:
    """Whether a test failed without our runtime having a part in it: in conversion, export, or Apple's interpreter."""
    if call.excinfo is None or call.excinfo.errisinstance(_AppleFailed):
        return True
    paths = [str(entry.path) for entry in call.excinfo.traceback]
    return not SEEN[0].runs and not any("/coreml_runtime/" in path or "coreai_plugin" in path for path in paths)
