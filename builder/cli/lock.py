"""`python -m builder lock recipe=…`: builds recipes and writes what they are made of to `builder.lock`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.artifacts.stages import BuildRequest
from builder.cli.arguments import Parser, verbosity
from builder.errors import BuilderError, ConfigurationError
from builder.noop import cache_folder
from builder.util.locations import shown
from builder.util.text import visible

DESCRIPTION = """Build a recipe, and write to builder.lock what it was built from and what came out: the address, digest
and size of its source, the digests of its files, code and data, exact versions of all tools, the digest of its
settings, and the digest of the artifact. Commit the file. `--locked` and `release` refuse what differs from it.

  python -m builder lock recipe=mobilenet_v2_fp16
  python -m builder lock --all
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("lock", DESCRIPTION, usage="lock recipe=NAME [key=value …] | lock --all")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("--all", action="store_true", help="lock every recipe")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where builds go (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Lock what the command line says; returns the exit code of the first recipe that could not be locked."""
    given = parser().read(arguments)
    from builder.config.compose import compose
    from builder.config.folders import open_library
    from builder.diagnostics.render import render_error

    if given.all and given.overrides:
        raise ConfigurationError("--all locks every recipe as it is, so it takes no key=value", code="B0229")
    lines = [[f"recipe={name}"] for name in open_library().recipe_names()] if given.all else [given.overrides]
    code = 0
    for line in lines:
        try:
            _lock(compose(line), Path(given.outputs), quiet=verbosity(given) < 0)
        except BuilderError as error:
            if not given.all:
                raise
            print(visible(f"{line[0]}: {render_error(error)}"), file=sys.stderr)
            code = code or error.exit_code
    return code


def _lock(request: BuildRequest, outputs: Path, *, quiet: bool) -> None:
    from builder.release.lock import lock_name, locked_artifacts, make_entry, update_lock
    from builder.release.processes import build_here
    from builder.release.tree import project_root
    from builder.store.roots import remember_root

    folder, name = Path.cwd(), lock_name(request.recipe, request.variant)
    root = project_root(folder).resolve()
    with tempfile.TemporaryDirectory(prefix="builder-lock-") as workspace:
        besides = [outputs, Path(workspace)]
        built: dict[str, Any] = build_here(
            request, Path(workspace) / "build", root=root, besides=besides, surroundings=None, network=True, quiet=quiet
        )
        path = update_lock(folder, {name: make_entry(request, built, root)})
    remember_root(Path(cache_folder()) / "store", path, locked_artifacts(folder))
    if built["seeded"]:
        print(f"{name} has untrained, seeded weights: it is locked, but it cannot be released", file=sys.stderr)
    print(f"{name} is locked: {built['artifact']['digest']}", file=sys.stderr)
    print(shown(path))
