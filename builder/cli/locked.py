"""`--locked` on a build: refuse what differs from `builder.lock`, before the build and after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.cli.run_build import build_and_report
from builder.errors import ConfigurationError
from builder.release import lock
from builder.release.tree import project_root
from builder.store.digests import artifact_digest
from builder.util.child import print_artifact
from builder.util.locations import shown


def run_locked(overrides: Sequence[str], *, multirun: bool, outputs: Path, verbosity: int) -> int:
    """Build one recipe as the lock says it; raises VerificationError naming what drifted."""
    if multirun:
        raise ConfigurationError("--locked builds one recipe, so it does not go with -m", code="B0229")
    from builder.config.compose import compose

    request, folder = compose(overrides), Path.cwd()
    name = lock.lock_name(request.recipe, request.variant)
    entry = lock.require_entry(folder, name)
    lock.refuse_drift(name, lock.drift_before(entry, request, project_root(folder).resolve()))
    record = build_and_report(request, outputs=outputs, verbosity=verbosity)
    digest, expected = artifact_digest(record.artifact.path), entry["artifact"]["digest"]
    if digest != expected:
        lock.refuse_drift(name, [f"artifact: digest: {expected} -> {digest}"])
    print_artifact(shown(record.artifact.path))
    return 0
