"""`python -m builder watch recipe=…`: builds with every change of what a build reads, and shows the report."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builder.artifacts.stages import BuildRequest
from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.errors import ConfigurationError
from builder.util.text import first_of, visible
from builder.watch.inputs import Inputs, absolute, look, write_inputs, write_modules
from builder.watch.loop import Builds, Event, Follower, Settings
from builder.watch.results import NOTHING, Result
from builder.watch.server import LiveReport

DESCRIPTION = """Build a recipe, and again whenever its YAML, code, weights or data change. Libraries stay loaded, and
code of a user is read anew each time. The report is shown in a browser, which follows. Ctrl-C ends it.

  python -m builder watch recipe=mobilenet_v2_fp16
  python -m builder watch recipe=mobilenet_v2_fp16 compression=int8 --port 8000
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("watch", DESCRIPTION, usage="watch recipe=NAME [key=value …] [--port NUMBER]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where artifacts go (default: outputs)")
    made.add_argument("--port", type=int, default=0, metavar="NUMBER", help="of the page (default: a free one)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Watch until Ctrl-C; returns the exit code."""
    given = parser().read(arguments)
    outputs = outputs_folder(given)
    if not any(word.startswith("recipe=") for word in given.overrides):
        raise ConfigurationError(
            "no recipe is given", code="B0225", hint="write `recipe=NAME`; `python -m builder list` prints them"
        )
    _require_recipe(given.overrides)
    if not 0 <= given.port < 65536:
        raise ConfigurationError(f"--port {given.port} is not a number of a port", code="B0228")
    with tempfile.TemporaryDirectory(prefix="builder-watch-") as workspace:
        settings = Settings(
            overrides=given.overrides,
            options=("-v",) * verbosity(given) or ("-q",) * -verbosity(given),
            outputs=outputs.absolute(),
            workspace=Path(workspace),
            worker=(sys.executable, "-m", "builder.cli.sweep_worker"),
            libraries=_libraries,
        )
        _watch(settings, given.port)
    return 0


def _require_recipe(overrides: Sequence[str]) -> None:
    """Raise ConfigurationError where no file is called so; one that is there may be wrong, and is mended meanwhile."""
    from builder.config.compose import compose
    from builder.config.folders import open_library

    names = open_library().recipe_names()
    if not any(word.removeprefix("recipe=") in names for word in overrides if word.startswith("recipe=")):
        compose(list(overrides))


def _watch(settings: Settings, port: int) -> None:
    from builder.watch.events import happenings

    first, recipe = configuration(), next(word for word in settings.overrides if word.startswith("recipe="))
    builds, live, result = Builds(settings, _say), LiveReport(port), NOTHING
    try:
        print(f"the report is at {live.address}; Ctrl-C ends", file=sys.stderr)
        for event in Follower(builds, settings.outputs, first).follow(happenings):
            result = event.result or result
            _show(event)
            live.show(page_state(event, result, recipe.removeprefix("recipe=")), result.report)
    except KeyboardInterrupt:
        print("\nended", file=sys.stderr)
    finally:
        builds.close()
        live.close()


def _libraries() -> object:
    """What changes when builder or an installed package does."""
    from builder.store.code import package_stats
    from builder.watch.inputs import stat_of

    return package_stats(), [stat_of(Path(entry)) for entry in sys.path if "site-packages" in entry]


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)  # the build has made it visible


def _show(event: Event) -> None:
    now = time.strftime("%H:%M:%S")
    if event.result is not None:
        print(visible(f"{now} {event.result.verdict}: {event.result.summary}"), file=sys.stderr, flush=True)
    elif event.changed:
        print(visible(f"\n{now} changed: {first_of(event.changed, 5)}"), file=sys.stderr, flush=True)


def page_state(event: Event, result: Result, recipe: str) -> dict[str, str]:
    """What the open page shows."""
    is_building = event.result is None
    written = "" if result.report is None or not result.report.exists() else str(result.report.stat().st_mtime_ns)
    return {
        "recipe": recipe,
        "verdict": "building" if is_building else result.verdict,
        "summary": ", ".join(event.changed) if is_building else result.summary,
        "error": "" if is_building else visible(result.error),
        "report": written,
    }


def configuration() -> Inputs:
    """What every build reads, before any has said more: the folders of recipes and options."""
    from builder.config.folders import open_library

    library = open_library()
    folders = {*library.recipes, *library.options, *(f for o in library.options for f in o.iterdir() if f.is_dir())}
    files = {file for folder in folders for file in folder.glob("*.yaml")}
    missing = {place for name in ("recipes", "conf") if not (place := Path.cwd() / name).exists()}
    return Inputs(files=absolute(files), folders=absolute(folders), missing=absolute(missing))


def report_inputs(request: BuildRequest, overrides: Sequence[str], file: Path) -> None:
    """Write what a build is about to read; where a recipe computes what that is, what the command line names."""
    from builder.cli.remember import UndecidableError, build_inputs

    try:
        found = build_inputs(request, overrides)
    except UndecidableError:
        inputs = configuration()
    else:
        inputs = Inputs(files=absolute(found.files), folders=absolute(found.folders), missing=absolute(found.missing))
    inputs = replace(inputs, recipe=request.recipe, variant=request.variant)
    write_inputs(inputs, look(inputs), file)


def report_modules(file: Path) -> None:
    """Write which modules of installed packages and of builder this process has imported; a user's are left out."""
    import sysconfig

    from builder.store.code import PACKAGE, runtime_package

    installed = (Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib"))
    write_modules(sys.modules, (*installed, PACKAGE, runtime_package()), file)
