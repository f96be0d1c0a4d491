"""`python -m builder release recipe=…`: a folder with the artifact and the proof of how it was made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, verbosity
from builder.errors import ConfigurationError
from builder.noop import cache_folder
from builder.util.locations import shown
from builder.util.suggest import did_you_mean

DESCRIPTION = """Release a recipe: from a clean git tree and locked inputs, without a network, built twice in unlike
surroundings and compared. The folder holds the artifact, the resolved recipe with all that it needs, the lock,
build.json, the report, SLSA provenance, a CycloneDX bill of materials and the digests of every file.

  python -m builder release recipe=mobilenet_v2_fp16
  python -m builder release recipe=mobilenet_v2_fp16 release.sign_key=key.pem --output ../releases/1.0

The path of the folder is the last line on stdout.
"""
_SETTINGS = ("release.sign_key",)


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("release", DESCRIPTION, usage="release recipe=NAME [key=value …] [release.sign_key=FILE]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("--output", metavar="FOLDER", help="the release (default: outputs/releases/RECIPE/VARIANT)")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where builds go (default: outputs)")
    made.add_argument("--locked", action="store_true", help="always on for a release; accepted for symmetry")
    return made


def run(arguments: Sequence[str]) -> int:
    """Release what the command line says; returns the exit code."""
    given = parser().read(arguments)
    from builder.config.compose import compose
    from builder.release.lock import FILE_NAME, locked_artifacts
    from builder.release.make import Order, make_release
    from builder.store.roots import remember_root

    overrides, settings = _split(given.overrides)
    request = compose(overrides)
    outputs = Path(given.outputs)
    key = settings.get("release.sign_key")
    order = Order(
        request=request,
        final=Path(given.output) if given.output else outputs / "releases" / request.recipe / request.variant,
        outputs=outputs,
        sign_key=Path(key).expanduser() if key else None,
        quiet=verbosity(given) < 0,
    )
    final = make_release(order, lambda message: None if order.quiet else print(message, file=sys.stderr))
    remember_root(Path(cache_folder()) / "store", final / FILE_NAME, locked_artifacts(final))
    print(shown(final))
    return 0


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Part the settings of the release from those of the recipe."""
    recipe, settings = [], {}
    for argument in arguments:
        key, equals, value = argument.lstrip("+").partition("=")
        if key.partition(".")[0] != "release":
            recipe.append(argument)
        elif key not in _SETTINGS or not equals or not value:
            hint = did_you_mean(key, _SETTINGS) or f"settings: {', '.join(_SETTINGS)}"
            raise ConfigurationError(f"a release has no setting `{argument}`", code="B0268", hint=hint)
        else:
            settings[key] = value
    return recipe, settings
