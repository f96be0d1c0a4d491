"""Builds from Python: the same engine as the command line, for notebooks and services.

    import builder

    record = builder.build("digits_mobilenet", "precision=fp16")
    model = builder.load(record.artifact.path)

Recipes are found as on the command line: in `./recipes`, `$BUILDER_RECIPES` and among the shipped ones.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from builder.progress import Heard, Progress, Sent, Silent

if TYPE_CHECKING:
    from builder.artifacts.record import BuildRecord
    from builder.engine.plan import Plan
    from builder.util.apart import Send
    from coreml_runtime import Model

Precision = Literal["half", "float32"]


def build(
    recipe: str,
    *overrides: str,
    outputs: str | Path = "outputs",
    progress: bool | Progress = False,
    check: bool = True,
) -> BuildRecord:
    """Build a recipe and return its record; stages whose results are in the store do not run again.

    `recipe` is a name as `python -m builder list` prints it, `overrides` are those of the command line
    (`"precision=fp32"`). Nothing is printed unless `progress` is true, which shows stages and bars on stderr, or an
    object of your own that takes them. `record.status` is `built`, or `broken` where a check missed its limit.

    Raises the errors of `builder.errors` that the command line prints: ConfigurationError, SourceError,
    ConversionError, UnfitEnvironmentError, and, unless `check` is false, CheckError (with `record`) for a broken build.

    The build runs in a child process, in which a user's code may do what it likes: what it prints is written by
    `sys.stdout` and `sys.stderr` of this process, what ends its process is a SourceError, and nothing changes here. So
    a factory must be in a module that can be imported, and what it leaves in variables is gone. Ctrl-C ends the child
    within two seconds. `progress` is called in this process.
    """
    from builder.engine.failure import require_built
    from builder.util import apart_server
    from builder.util.apart import call_apart

    apart_server.PRELOADED[:] = _PRELOADED
    work = functools.partial(_build, recipe, overrides, Path(outputs), listens=progress is not False)
    with _shown(progress) as listener:
        record: BuildRecord = call_apart(work, Heard(listener).handlers)
    return require_built(record, Path(outputs)) if check else record


_PRELOADED = (
    "builder.backends.coreml.backend",
    "builder.backends.coreml.convert",
    "builder.config.compose",
    "builder.engine.pipeline",
    "builder.stages.capture",
    "builder.stages.load",
    "builder.stages.prepare",
    "builder.stages.verify",
)
"""What builds import, none of which runs user code."""


def _build(recipe: str, overrides: Sequence[str], outputs: Path, send: Send, *, listens: bool) -> BuildRecord:
    """In the child: build, and send what it does to a listener."""
    from builder.config.compose import compose
    from builder.config.places import located
    from builder.engine.pipeline import build as run_build

    request = compose([f"recipe={recipe}", *overrides])
    with located(request):
        return run_build(request, outputs=outputs, progress=Sent(send) if listens else Silent())


def plan(recipe: str, *overrides: str, outputs: str | Path = "outputs") -> Plan:
    """Return what a build would do: which stages the store has, and why the others would run. Nothing is built.

    Raises ConfigurationError with everything that is wrong with the recipe.
    """
    from builder.config.compose import compose
    from builder.engine.plan import plan as look_up

    return look_up(compose([f"recipe={recipe}", *overrides]), outputs=Path(outputs), progress=Silent())


def load(path: str | Path, *, function: str | None = None) -> Model:
    """Load an artifact to execute it on this machine; `model.predict({"image": …})` returns outputs by name.

    Raises `coreml_runtime.RuntimeFailure` where the file is damaged or has an operator that is not implemented.
    """
    from coreml_runtime import load as load_model

    return load_model(path, function=function)


@contextmanager
def _shown(progress: bool | Progress) -> Iterator[Progress]:
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield Silent()
    else:
        from builder.reports.terminal import Terminal

        with Terminal(verbosity=0, stream=sys.stderr) as terminal:
            yield terminal
