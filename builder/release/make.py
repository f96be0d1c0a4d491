"""The result of a release on one page: refuse, build twice, compare, write everything down, sign."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.stages import BuildRequest
from builder.errors import ConfigurationError, VerificationError
from builder.release import bom, lock, provenance, signing
from builder.release.digests import MANIFEST, digests_below, write_manifest
from builder.release.portable import PROJECT, Resolved, python_path_inside, resolve, write_resolved
from builder.release.processes import ELSEWHERE, HERE, build_from, build_here
from builder.release.toolchain import toolchain
from builder.release.tree import Tree, clean_tree, require_tracked
from builder.spec.coverage import uncovered_inputs
from builder.util.paths import publish, writing
from builder.util.text import visible_json

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

BUILD_JSON = "build.json"
_NAMED = 12
"""So many differences a mismatch names."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be released, and where to."""

    request: BuildRequest
    final: Path
    outputs: Path
    """Where builds go, which git need not know."""
    sign_key: Path | None
    quiet: bool = False


def make_release(order: Order, say: Say) -> Path:
    """Make the release and return its folder; raises VerificationError when it must not be made."""
    _check_order(order)
    folder, name = Path.cwd(), lock.lock_name(order.request.recipe, order.request.variant)
    tree = clean_tree(folder, besides=[order.outputs, order.final])
    entry = lock.require_entry(folder, name)
    _refuse_seeded(name, bool(entry["source"].get("seeded")))
    lock.refuse_drift(name, lock.drift_before(entry, order.request, tree.root))
    with writing(order.final.parent), tempfile.TemporaryDirectory(prefix="builder-release-") as workspace_name:
        workspace = Path(workspace_name)
        besides = [order.outputs, order.final, workspace]
        say("build 1 of 2: here, without network and without the store")
        first = build_here(
            order.request, workspace / "1", root=tree.root, besides=besides, surroundings=HERE, quiet=order.quiet
        )
        _refuse_seeded(name, bool(first["seeded"]))
        _refuse_foreign(first)
        release = workspace / "release"
        resolved = _collect(order.request, tree, first, release)
        say("build 2 of 2: from the files of the release alone, elsewhere")
        copy = workspace / "some where else" / "further down"
        shutil.copytree(release, copy)
        second = build_from(copy, resolved, workspace / "a 2nd room", ELSEWHERE)
        _compare(first, second)
        lock.refuse_drift(name, lock.drift_after(entry, lock.make_entry(order.request, first, tree.root)))
        code = [Path(file).relative_to(tree.root).as_posix() for file in first["project_files"] if file.endswith(".py")]
        lock_file = (folder.resolve() / lock.FILE_NAME).relative_to(tree.root).as_posix()
        require_tracked(tree, [*code, lock_file])
        clean_tree(folder, besides=besides)
        _write_documents(order, tree, entry, release, (first, second))
        if order.sign_key is not None:
            say("signing")
            signing.sign(release, first["artifact"]["name"], order.sign_key)
        write_manifest(release)
        _publish(release, order.final)
    return order.final


def _check_order(order: Order) -> None:
    """Refuse what can be refused before anything is built."""
    _refuse_synthetic(order.request)
    if order.sign_key is not None:
        signing.read_private_key(order.sign_key)
        signing.require_signing()
    if order.final.exists() and not (order.final / MANIFEST).is_file():
        empty = order.final.is_dir() and not any(order.final.iterdir())
        if not empty:
            raise ConfigurationError(
                f"{order.final} exists and is not a release",
                code="B0227",
                hint="give another --output, or remove it yourself",
            )


def _refuse_synthetic(request: BuildRequest) -> None:
    names = uncovered_inputs(request.spec)
    if names:
        raise VerificationError(
            f"the checks have no data for {', '.join(names)}: what the artifact makes of real inputs is open",
            code="B0603",
            hint="give some: `checks.parity.data: {kind: tensors, file: samples.npz}`, or accept that in words: "
            "`checks.parity.accept_synthetic: true`",
        )


def _refuse_seeded(name: str, seeded: bool) -> None:
    if seeded:
        raise VerificationError(
            f"{name} would be built with untrained, seeded weights, and those are not released",
            code="B0603",
            hint="let the weights be downloaded once (`python -m builder lock …` with a network), or give a local file",
        )


def _refuse_foreign(built: JsonObject) -> None:
    if built["foreign_code"]:
        raise VerificationError(
            f"the build runs code from outside of the repository: {', '.join(built['foreign_code'])}",
            code="B0602",
            hint="move it into the repository, or install it as a package",
        )


def _collect(request: BuildRequest, tree: Tree, built: JsonObject, release: Path) -> Resolved:
    """Fill `release` with all that a rebuild needs: the resolved recipe, the project's files, and other inputs."""
    weights = built["source"].get("path")
    downloaded = Path(weights) if weights and not getattr(request.spec.source, "file", None) else None
    resolved, needed = resolve(
        request, tree.root, weights=downloaded, folder=Path.cwd(), python_path=python_path_inside(tree.root)
    )
    for file in map(Path, built["project_files"]):
        needed.setdefault(f"{PROJECT}/{file.relative_to(tree.root).as_posix()}", file)
    release.mkdir()
    for place, source in sorted(needed.items()):
        target = release / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    write_resolved(resolved, release)
    return resolved


def _compare(first: JsonObject, second: JsonObject) -> None:
    """Raise VerificationError that names what differs, unless both builds gave the same bytes."""
    if first["artifact"]["digest"] == second["artifact"]["digest"]:
        return
    from builder.release.difference import differences

    one, other = (Path(built["folder"]) / built["artifact"]["name"] for built in (first, second))
    found = differences(one, other)
    more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    raise VerificationError(
        "two builds gave two artifacts; they differ in\n  " + "\n  ".join([*found[:_NAMED], *more]),
        code="B0604",
        hint="the builds had other hash seeds, time zones, locales, folders and thread counts: "
        "look for randomness without a seed, for the order of sets, for the time, and for paths in user code",
    )


def _write_documents(
    order: Order, tree: Tree, entry: lock.Entry, release: Path, builds: tuple[JsonObject, ...]
) -> None:
    """Add the artifact and every document to `release`; provenance is the last, since it names all others."""
    built = Path(builds[0]["folder"])
    artifact = builds[0]["artifact"]["name"]
    source = built / artifact
    shutil.copytree(source, release / artifact) if source.is_dir() else shutil.copyfile(source, release / artifact)
    shutil.copyfile(built / "report.html", release / "report.html")
    surroundings = tuple(
        {**vars(place), "network": result["network"], "digest": result["artifact"]["digest"]}
        for place, result in zip((HERE, ELSEWHERE), builds, strict=True)
    )
    build = json.loads((built / BUILD_JSON).read_text(encoding="utf-8"))
    build["artifact"]["path"] = artifact
    build["release"] = {"builds": list(surroundings), "commit": tree.commit, "toolchain": toolchain(entry)}
    _write_json(release / BUILD_JSON, build)
    name = lock.lock_name(order.request.recipe, order.request.variant)
    (release / lock.FILE_NAME).write_text(lock.lock_text({name: entry}), encoding="utf-8")
    facts = provenance.Facts(
        recipe=order.request.recipe,
        variant=order.request.variant,
        artifact=artifact,
        entry=entry,
        build=build,
        commit=tree.commit,
        remote=tree.remote,
        builds=surroundings,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    _write_json(release / bom.FILE_NAME, bom.bill_of_materials(facts))
    files = digests_below(release)
    own = {name: digest for name, digest in files.items() if name == artifact or name.startswith(f"{artifact}/")}
    others = {name: digest for name, digest in files.items() if name not in own}
    _write_json(release / provenance.FILE_NAME, provenance.statement(facts, own, others))


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(visible_json(text) + "\n", encoding="utf-8")


def _publish(release: Path, final: Path) -> None:
    """Put the finished release in the place of `final`, by a rename on its own file system."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent) as beside:
        finished = Path(beside) / "release"
        shutil.copytree(release, finished)
        publish(finished, final)
