"""The process that a sweep's jobs are forked from: `python -m builder.cli.sweep_worker DESCRIPTOR`."""

from __future__ import annotations

import contextlib
import importlib
import socket
import sys
from dataclasses import is_dataclass

from builder.cli.main import run_apart
from builder.cli.process import setup_process
from builder.errors import BuilderError
from builder.jobs.fork_server import serve

_SHARED = (
    "builder.cli.build",
    "builder.cli.composed",
    "builder.cli.remember",
    "builder.cli.watch",
    "builder.reports.current",
    "builder.backends.coreml.backend",
    "builder.config.compose",
    "builder.data",
    "builder.backends.coreml.description",
    "builder.engine.pipeline",
    "builder.engine.plan",
    "builder.reports.files",
    "builder.reports.terminal",
    "builder.stages.load",
    "builder.stages.prepare",
    "builder.stages.capture",
    "builder.backends.coreml.convert",
    "builder.backends.coreml.compress",
    "builder.backends.coreml.seal",
    "builder.stages.verify",
    "coremltools.optimize.coreml",
    "sklearn.cluster",
)
"""What the stages of a build import in the end; none of it runs user code."""


def import_shared() -> None:
    """Import what every job would import; a job that needs what is broken says so itself."""
    from builder.backends.coreml.importing import import_coremltools

    with contextlib.suppress(BuilderError):
        import_coremltools()
    for name in _SHARED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _build_schemas()


def _build_schemas() -> None:
    """Have pydantic make the validators that every job needs, which it would put off until their first use."""
    from builder.artifacts import stored
    from builder.engine.serialize import adapter
    from builder.spec import BuildSpec

    BuildSpec.model_rebuild()
    for kind in vars(stored).values():
        if isinstance(kind, type) and kind.__module__ == stored.__name__ and is_dataclass(kind):
            adapter(kind)


def run(descriptor: int) -> int:
    """Import, then fork for every job; in a job, build and return its exit code."""
    setup_process()
    import_shared()
    with socket.socket(fileno=descriptor) as channel:
        task = serve(channel)
    return 0 if task is None else run_apart(list(task.arguments))


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1])))
