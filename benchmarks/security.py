"""What the layer of security costs: its share of a cold build's processor time, and what it adds to an unchanged one.

    python -m benchmarks.security [--recipe digits_mobilenet]

Every function that only checks, guards, hides or escapes is timed while a recipe is built with an empty store; a
function that is called by another one of them counts once. Processor time of one thread is compared, which other
programs do not disturb. A child process is measured on its own, as the time from its fork to its end around work that
does nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GOAL = 0.02
"""Of a cold build's time."""
CHECKS = (
    "builder.model.sources.exported_archive:_refuse",
    "builder.config.interpolation:lookups",
    "builder.model.sources.script_archive:_refuse_code_on_load",
    "builder.model.sources.script_archive:refuse_functions",
    "builder.store.actions:_own_text",
    "builder.store.actions:_read",
    "builder.store.actions:redacted_values",
    "builder.store.objects:is_digest",
    "builder.util.reading:require_regular",
    "builder.util.redact:hide_environment",
    "builder.util.redact:redacted_values",
    "builder.util.text:visible_json",
    "builder.util.process_state:_state",
    "builder.util.process_state:_restore",
    "builder.util.child:doing",
)
"""Functions that a build without any security would not have."""
SHOWN = ("reports.console", "reports.log", "reports.markup", "util.text")
"""Modules that make texts visible, each by a name of its own."""


class Timer:
    """Adds up the processor time inside of functions, the outermost at a time."""

    def __init__(self) -> None:
        self.by_name: dict[str, float] = {}
        self.calls = 0
        self._depth = 0

    @property
    def seconds(self) -> float:
        """All together."""
        return sum(self.by_name.values())

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*args: Any, **named: Any) -> Any:
            self._depth += 1
            start = time.thread_time()
            try:
                return function(*args, **named)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    spent = time.thread_time() - start
                    self.by_name[name] = self.by_name.get(name, 0.0) + spent
                    self.calls += 1

        return timed


@contextmanager
def timed(timer: Timer) -> Iterator[None]:
    """Time all functions of the layer."""
    places = [*CHECKS, *(f"builder.{module}:visible" for module in SHOWN)]
    before = []
    for place in places:
        module, _, name = place.partition(":")
        found = importlib.import_module(module)
        before.append((found, name, getattr(found, name)))
        setattr(found, name, timer.around(place, getattr(found, name)))
    try:
        yield
    finally:
        for found, name, function in before:
            setattr(found, name, function)


def main() -> int:
    """Measure, print, and return 0 if the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits_mobilenet")
    given = parser.parse_args()
    from builder.cli.main import run

    timer = Timer()
    with tempfile.TemporaryDirectory(prefix="builder-security-") as folder:
        os.environ["BUILDER_CACHE"] = str(Path(folder) / "cache")
        with timed(timer):
            start = time.process_time()
            code = run([f"recipe={given.recipe}", "tracking=none", "-q", "--outputs", str(Path(folder) / "outputs")])
            whole = time.process_time() - start
    child = _child_seconds()
    for name, seconds in sorted(timer.by_name.items(), key=lambda item: -item[1])[:5]:
        print(f"  {1000 * seconds:6.1f} ms  {name}")
    share = (timer.seconds + child) / whole
    print(f"cold build of {given.recipe}: {whole:.2f} s of processor time; security {1000 * timer.seconds:.1f} ms in")
    print(
        f"{timer.calls} calls, and {1000 * child:.1f} ms for the child: {100 * share:.2f} % (goal {100 * GOAL:.0f} %)"
    )
    return code or int(share > GOAL)


def _child_seconds(rounds: int = 20) -> float:
    """Processor time of both processes around work that does nothing, where a command forks: before it imports much."""
    code = (
        "import resource, builder.cli.main; from builder.util.child import run_in_child\n"
        "def spent(): return sum(sum(resource.getrusage(who)[:2]) for who in (0, -1))\n"
        f"start = spent(); [run_in_child(lambda: 0) for _ in range({rounds})]; print((spent() - start) / {rounds})"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
