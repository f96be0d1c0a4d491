"""What all tests share: one thread (two workers share the machine), and a cache of their own."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager

import pytest
from hypothesis import HealthCheck, settings

from builder.jobs.forks import can_fork
from builder.util.lazy_import import around_import
from builder.util.telemetry import disable_telemetry
from tests import warm

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small models gain nothing from more
disable_telemetry()

for _number in (signal.SIGINT, signal.SIGHUP):  # `nohup` and `&` have them ignored, by whatever is started too
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)

settings.register_profile(  # no run differs from another, and none depends on the clock; `make fuzz` explores
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Start what forks for commands of tests, once for all workers."""
    if can_fork() and not hasattr(config, "workerinput"):
        config.add_cleanup(warm.Server().stop)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what tests are compiled to, but not modules that they write: another may follow within a second.

    Tests that import coremltools by themselves do so as builder does, without scikit-learn and torch's compiler.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        with around_import("coremltools", _as_builder_does):
            return (yield)
    finally:
        sys.dont_write_bytecode = before


def _as_builder_does() -> AbstractContextManager[None]:
    from builder.backends.coreml.importing import quick_import  # imports torch

    return quick_import()


@pytest.fixture(autouse=True, scope="module")
def _earlier_objects_are_set_aside() -> None:
    """Let no collection of garbage walk what earlier modules left alive: that took most of the time in the end."""
    gc.set_threshold(50_000, 20, 50)  # as commands have it
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's cache, recipes and tracking server, and from any network."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no test cuts the power, and a small build asks 18 times
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # one store for all workers, as builds side by side have it
    monkeypatch.setenv("BUILDER_CACHE", str(base / "cache"))
    for name in (
        "BUILDER_RECIPES",
        "BUILDER_REMOTE",
        "BUILDER_REMOTE_ACCESS",
        "MLFLOW_TRACKING_URI",
        "BUILDER_SWEEP_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
