"""A pytest plugin under which Apple's own tests of coremltools predict with this runtime, strictly compared."""

import gc
import json
import random
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _pytest.runner import runtestprotocol

from builder.model.torchvision_import import import_torchvision
from coreml_runtime.patching import Proxy, install
from tests.conformance import macos, results, tolerance
from tests.conformance.exceptions import explanation
from tests.conformance.mutations import Mutations
from tests.conformance.watch import Seen, Watcher

_LAYER_TESTS = "coremltools.test.neural_network.test_numpy_nn_layers"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-out", default="", help="write one JSON line a test to this file")
    group.addoption("--conformance-list", default="", help="run only the tests listed in this file")
    group.addoption("--conformance-mutate", action="store_true", help="run listed tests with wrong kernels instead")
    group.addoption("--conformance-done", default="", help="leave out the tests with results in this folder")
    group.addoption("--conformance-export", default="", help="export every model too, and write what came of it here")
    group.addoption("--conformance-shard", default="0/1", help="run every n-th test: k/n")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    import_torchvision()
    install()
    macos.pretend()
    plugin = Conformance(config)
    config.pluginmanager.register(plugin, "conformance")
    if config.getoption("--conformance-mutate"):
        config.pluginmanager.register(MutationRun(plugin), "mutations")


class Conformance:
    """Selects the tests, gives each a seed and a folder of its own, and writes what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        self.watcher = Watcher()
        self.current = [""]
        self.config = config
        self.ran = 0
        exported = config.getoption("--conformance-export")
        if exported:
            from tests.conformance.exporting import Exporter

            Exporter(Path(exported)).wrap(Proxy, self.current)
        self.watcher.wrap(Proxy)
        _sort_stably()
        tolerance.tighten(self.watcher, self.current)
        done = config.getoption("--conformance-done")
        self.done = {result["test"] for result in results.read_results(Path(done))} if done else set()
        chosen = config.getoption("--conformance-list")
        self.wanted = frozenset(read_sample(Path(chosen))) if chosen else frozenset()
        self.wanted_parts = {part for test in self.wanted for part in _parts(test)}
        path = config.getoption("--conformance-out")
        self.out = Path(path).open("w", encoding="utf-8") if path else None  # noqa: SIM115 - closed at the end of the session

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, collector: pytest.Collector, name: str) -> list[pytest.Item] | None:
        """Make nothing of a class or function that has no listed test."""
        is_wanted = not self.wanted or f"{collector.nodeid}::{name}" in self.wanted_parts
        return None if is_wanted else []

    @pytest.hookimpl(wrapper=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Iterator[None]:
        """Make listed tests of a function alone: of some there are thousands, and each takes half a millisecond."""
        yield
        if self.wanted:
            function = metafunc.definition.nodeid
            metafunc._calls = [call for call in metafunc._calls if f"{function}[{call.id}]" in self.wanted]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.wanted:
            items[:] = [item for item in items if item.nodeid in self.wanted]
        index, count = (int(part) for part in self.config.getoption("--conformance-shard").split("/"))
        items[:] = [item for item in items[index::count] if item.nodeid not in self.done]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        modules = {item.module.__name__: item.module for item in session.items if isinstance(item, pytest.Function)}
        if _LAYER_TESTS in modules:
            tolerance.tighten_layer_tests(modules[_LAYER_TESTS], self.current)
        _set_aside()

    def reset(self, item: pytest.Item) -> None:
        """A seed by the test's name makes its random inputs independent of which other tests run."""
        seed = zlib.crc32(item.nodeid.encode())
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.watcher.seen = Seen()
        self.current[0] = item.nodeid

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """Each test has a folder of its own for what coremltools leaves behind."""
        self.reset(item)
        self.ran += 1
        if self.ran % _TESTS_BETWEEN == 0:
            _set_aside()
        folder, before = tempfile.mkdtemp(prefix="conformance-"), tempfile.tempdir
        tempfile.tempdir = folder
        try:
            return (yield)
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
        report = yield
        if report.when == "call" or report.outcome != "passed":
            self._write(item, call, report)
        return report

    def _write(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        seen = self.watcher.seen
        kind, reason = _kind(report, call, seen.predictions)
        known = explanation(item.nodeid) if kind == results.FAILED else None
        if known is not None:
            kind, reason = results.EXPLAINED, known
        result = results.Result(
            test=item.nodeid,
            kind=kind,
            reason=reason,
            detail=str(call.excinfo.value)[:300] if kind == results.FAILED and call.excinfo else "",
            predictions=seen.predictions,
            operators=tuple(sorted(seen.operators)),
            seconds=round(report.duration, 3),
        )
        if self.out is not None and not self.config.getoption("--conformance-mutate"):
            self.out.write(json.dumps(result.as_json()) + "\n")
            self.out.flush()

    def pytest_unconfigure(self) -> None:
        if self.out is not None:
            self.out.close()


class MutationRun:
    """Runs listed tests with the kernels of one family made wrong, until a test fails; writes what nobody caught."""

    def __init__(self, main: Conformance) -> None:
        self.main = main
        self.mutations = Mutations()
        self.open = set(self.mutations.families)
        self.sample = read_sample(Path(main.config.getoption("--conformance-list")))

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        for family in sorted(self.open & self.mutations.touched(self.sample[item.nodeid])):
            self.mutations.active = family
            self.main.reset(item)
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            self.mutations.active = ""
            if any(report.failed for report in reports):
                self.open.discard(family)
        return True

    def pytest_sessionfinish(self) -> None:
        if self.main.out is not None:
            self.main.out.write(
                json.dumps({"families": sorted(self.mutations.families), "missed": sorted(self.open)}) + "\n"
            )


def _parts(test: str) -> Iterator[str]:
    """The function of a test without its parameters, and the classes that it is in, by their ids."""
    names = test.partition("[")[0].split("::")
    return ("::".join(names[:length]) for length in range(2, len(names) + 1))


def read_sample(path: Path) -> dict[str, set[str]]:
    """Ids of tests, and the operators and layers that each runs: tab, then names with a blank between."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        test, _, names = line.partition("\t")
        found[test] = set(names.split())
    return found


_TESTS_BETWEEN = 100


def _set_aside() -> None:
    """ct.convert collects garbage each time: what is alive now (reports of tests) need not be looked at again."""
    gc.collect()
    gc.freeze()


def _sort_stably() -> None:
    """The tests of topk and argsort take numpy's default order of ties as the truth.

    That was the order of the input where they were written (short arrays are sorted by insertion); on x86 with
    vector instructions numpy sorts ties anyhow.
    """
    original = np.argsort

    def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None) -> Any:
        return original(a, axis=axis, kind=kind or "stable", order=order)

    np.argsort = argsort


def _kind(report: pytest.TestReport, call: pytest.CallInfo[None], predictions: int) -> tuple[str, str]:
    if hasattr(report, "wasxfail") and report.outcome != "passed":
        return results.EXPECTED_FAILURE, results.first_line(report.wasxfail)
    if report.outcome == "skipped":
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return results.SKIPPED, results.first_line(text)
    if report.outcome == "failed":
        return results.classify_failure(call.excinfo, predictions)
    return (results.PREDICTED, "") if predictions else (results.NO_PREDICTION, "")
