"""Build again what a release carries, and say why the result differs if it does: other tools, or no reproducibility."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from builder.errors import BuilderError, VerificationError
from builder.release.lock import locked_tools
from builder.release.make import BUILD_JSON
from builder.release.portable import FILE_NAME, INPUTS, PROJECT, read_resolved
from builder.release.processes import build_from
from builder.release.toolchain import toolchain, toolchain_differences
from builder.release.verify import Release
from builder.spec.source_kinds import kind_named

_NAMED = 12


def rebuild(release: Release) -> list[str]:
    """Build in a fresh process from a copy of the release's files, and compare digests.

    Returns how the tools differ although the result is the same. Raises VerificationError when it is another one, or
    when the build fails.
    """
    resolved = read_resolved(release.folder)
    then = _toolchain_then(release)
    others = toolchain_differences(
        then, toolchain({"tools": locked_tools(kind_named(resolved.spec["source"]["kind"]), resolved.spec["format"])})
    )
    with tempfile.TemporaryDirectory(prefix="builder-rebuild-") as workspace_name:
        workspace = Path(workspace_name)
        copy = workspace / "release"
        for name in (PROJECT, INPUTS):
            if (release.folder / name).is_dir():
                shutil.copytree(release.folder / name, copy / name)
        copy.mkdir(exist_ok=True)
        shutil.copyfile(release.folder / FILE_NAME, copy / FILE_NAME)
        try:
            built = build_from(copy, resolved, workspace / "build", None)
        except BuilderError as error:
            raise _refusal("it cannot be built again: " + error.message, others, []) from error
        if built["artifact"]["digest"] == release.digest:
            return others
        from builder.release.difference import differences

        found = differences(release.artifact, Path(built["folder"]) / built["artifact"]["name"])
        raise _refusal(f"built again, it has the digest {built['artifact']['digest']}", others, found)


def _toolchain_then(release: Release) -> Mapping[str, str]:
    """The tools that the release says it was built with; raises VerificationError where it names none."""
    recorded = release.build.get("release")
    tools = recorded.get("toolchain") if isinstance(recorded, dict) else None
    if not isinstance(tools, dict):
        raise VerificationError(f"{BUILD_JSON} does not name the tools of the release", code="B0608")
    return {name: str(version) for name, version in tools.items()}


def _refusal(what: str, others: list[str], found: list[str]) -> VerificationError:
    """Tell a different toolchain from what cannot be reproduced with the same one."""
    more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    differing = ["they differ in", *found[:_NAMED], *more] if found else []
    if others:
        lines = [*others, *differing]
        return VerificationError(
            f"different toolchain: {what}\n  " + "\n  ".join(lines),
            code="B0604",
            hint="rebuild with the versions of the release: its builder.lock lists them",
        )
    return VerificationError("\n  ".join([f"not reproducible: with the same tools, {what}", *differing]), code="B0604")
