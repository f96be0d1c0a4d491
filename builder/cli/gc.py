"""`python -m builder gc`: removes from the store what was not used for long, or what makes it too large."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, verbosity
from builder.errors import ConfigurationError
from builder.util.text import visible

DESCRIPTION = """Remove stored results that no build has used for long, the oldest first.

Artifacts under outputs/ and releases are files of their own and stay. What is removed is built again when it is needed.
Nothing that was used within the last day is removed, and nothing that leads to an artifact which a builder.lock or a
release names: the store knows those that `lock` and `release` wrote, and the lock of this folder counts as well.

  python -m builder gc --dry-run
  python -m builder gc --older-than 7d --larger-than 2G
"""

_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"M": 10**6, "G": 10**9, "T": 10**12}


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("gc", DESCRIPTION, usage="gc [--older-than 30d] [--larger-than 20G] [--dry-run]")
    made.add_argument("--older-than", default="30d", metavar="TIME", help="last used before (default: 30d)")
    made.add_argument("--larger-than", default="20G", metavar="SIZE", help="what the store may take (default: 20G)")
    made.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    return made


def run(arguments: Sequence[str]) -> int:
    """Collect garbage; returns the exit code."""
    given = parser().read(arguments)
    age = _amount("--older-than", given.older_than, _SECONDS)
    size = _amount("--larger-than", given.larger_than, _BYTES)
    from builder.noop import cache_folder
    from builder.progress import Silent
    from builder.reports.plain import size as shown_size
    from builder.store.actions import Store
    from builder.store.collect import collect, collect_notes
    from builder.store.digests import StatCache

    store = Store(Path(cache_folder()) / "store", Silent())
    artifacts = _locked_artifacts(store.root, dry_run=given.dry_run)
    found = collect(store, max_age=age, max_bytes=int(size), dry_run=given.dry_run, artifacts=artifacts)
    notes = collect_notes(store.root.parent, max_age=age, dry_run=given.dry_run)
    if not given.dry_run:
        StatCache(store.root.parent / "remembered.json").prune()
    if verbosity(given) > 0:
        for file in (*found.files, *notes):
            print(visible(str(file)))
    what = "would be removed" if given.dry_run else "removed"
    removed, kept = shown_size(found.bytes), shown_size(found.kept_bytes)
    rooted = f" ({found.rooted} results for locks and releases)" if found.rooted else ""
    amount = f"{len(found.files) + len(notes)} files, {removed}, {what}"
    print(visible(f"{amount}; {kept} stay{rooted} in {store.root}"), file=sys.stderr)
    return 0


def _locked_artifacts(store: Path, *, dry_run: bool) -> set[str]:
    """The digests of all artifacts that a lock names; raises ConfigurationError where a lock cannot be read.

    What a lock named that is away for the moment counts as well, and that is said.
    """
    from builder.release.lock import FILE_NAME, locked_artifacts
    from builder.store.roots import AWAY, forget_root, remember_root, remembered_roots

    found: set[str] = set()
    here = Path.cwd() / FILE_NAME
    known = remembered_roots(store)
    for file in {root.file for root in known if root.is_there} | ({here} if here.exists() else set()):
        artifacts = locked_artifacts(file.parent)
        if not dry_run:
            remember_root(store, file, artifacts)
        found |= artifacts
    for root in (root for root in known if not root.is_there):
        if root.is_forgotten and not dry_run:
            forget_root(root)
        elif not root.is_forgotten:
            found |= root.artifacts
            what = f"{root.file} is not there now; what it named stays for {AWAY / 86400:.0f} days"
            print(visible(what), file=sys.stderr)
    return found


def _amount(option: str, text: str, units: dict[str, int]) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z])", text)
    if found is None or found[2] not in units:
        raise ConfigurationError(
            f"{option} {text} is not an amount",
            code="B0228",
            hint=f"a number and one of {', '.join(units)}: `2{next(iter(units))}`",
        )
    return float(found[1]) * units[found[2]]
