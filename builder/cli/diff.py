"""`python -m builder diff A B`: what differs between two artifacts or builds, from the recipe down to the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.arguments import Parser, verbosity
from builder.errors import ConfigurationError, SourceError
from builder.util.reading import require_contained
from builder.util.text import visible

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

DESCRIPTION = """Compare two artifacts (.mlpackage, .mlmodel, .aimodel), or two builds (folders with a build.json).

Of builds the configuration, the versions of tools and what the checks measured are compared as well. Weights that
differ come with the largest first. Nothing is printed, and the exit code is 0, where nothing differs.

  python -m builder diff outputs/mobilenet_v2_fp16/default outputs/mobilenet_v2_fp16/precision=fp32
"""

_PARTS = {"config": "setting", "versions": "version", "source": "source", "stages": "stage", "checks": "check"}


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("diff", DESCRIPTION, usage="diff A B")
    made.add_argument("one", metavar="A", help="an artifact, or the folder of a build")
    made.add_argument("other", metavar="B", help="what to compare it with")
    return made


def run(arguments: Sequence[str]) -> int:
    """Print what differs; returns the exit code."""
    given = parser().read(arguments)
    from builder.reports.working import working

    with working("comparing", given.one, verbosity=verbosity(given)):
        lines = list(compare(Path(given.one), Path(given.other)))
    for line in lines:
        print(visible(line))
    return 0


def compare(one: Path, other: Path) -> Iterator[str]:
    """Yield one line for each difference: of the builds, where both are known, then of the artifacts."""
    (first, mine), (second, theirs) = _opened(one), _opened(other)
    for each in (first, second):
        require_contained(each)
    if mine is not None and theirs is not None:
        for part, word in _PARTS.items():
            yield from _changed(word, _facts(part, mine), _facts(part, theirs))
    from builder.store.digests import artifact_digest

    if artifact_digest(first) != artifact_digest(second):
        from builder.release.difference import differences
        from coreml_runtime.errors import RuntimeFailure

        try:
            yield from differences(first, second)
        except RuntimeFailure as error:
            raise SourceError(f"an artifact cannot be read: {error}", code="B0302") from error


def _opened(path: Path) -> tuple[Path, JsonObject | None]:
    """The artifact that a path means, and the record beside it, if there is one."""
    from builder.reports.build_json import FILE_NAME, read_build_json

    if not path.exists():
        raise ConfigurationError(f"{path} does not exist", code="B0226")
    is_artifact = path.suffix in (".mlpackage", ".mlmodel", ".aimodel")
    record = (path.parent if is_artifact else path if path.is_dir() else path.parent) / FILE_NAME
    document = None
    if record.is_file():
        try:
            document = read_build_json(record)
        except ValueError as error:
            raise ConfigurationError(str(error), code="B0226") from error
    if is_artifact:
        return path, document
    if document is None:
        variants = sorted(str(found.parent) for found in path.glob(f"*/{FILE_NAME}")) if path.is_dir() else []
        raise ConfigurationError(
            f"{path} is neither an artifact nor the folder of a build",
            code="B0226",
            hint=f"builds lie in {', '.join(variants)}" if variants else None,
        )
    return Path(document["artifact"]["path"]), document


def _facts(part: str, document: JsonObject) -> dict[str, object]:
    """What is compared of a part of `build.json`, by dotted key; times are not."""
    from builder.reports.plain import leaves

    value = document.get(part, {})
    if part == "stages":
        return {stage["name"]: stage["result"] for stage in value}
    if part == "checks":
        value = {
            f"{check['name']} ({check['engine']})": {"passed": check["passed"], **check["values"]} for check in value
        }
    return dict(leaves(value))


def _changed(word: str, mine: Mapping[str, object], theirs: Mapping[str, object]) -> Iterator[str]:
    for key in sorted(mine.keys() | theirs.keys()):
        old, new = mine.get(key, "(none)"), theirs.get(key, "(none)")
        if old != new:
            yield f"{word} {key}: {old} -> {new}"
