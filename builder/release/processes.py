"""Builds in fresh processes, each in an environment of its own: what must not matter is different in each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.artifacts.stages import BuildRequest
from builder.errors import CLASSES, BuilderError, UnfitEnvironmentError
from builder.noop import cache_folder
from builder.release.portable import PROJECT, Resolved, request_in
from builder.util.child import ending_with_us

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_PARENT = Path(__file__).resolve().parents[2]
"""The folder that builder is imported from."""


@dataclass(frozen=True, kw_only=True)
class BuildEnvironment:
    """What a build must not depend on."""

    name: str
    hash_seed: str
    time_zone: str
    locale: str
    threads: str

    def variables(self) -> dict[str, str]:
        """The environment variables that make these surroundings."""
        return {
            "PYTHONHASHSEED": self.hash_seed,
            "TZ": self.time_zone,
            "LC_ALL": self.locale,
            "LANG": self.locale,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), self.threads),
        }


_UTF8 = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
HERE = BuildEnvironment(name="here", hash_seed="1", time_zone="Pacific/Auckland", locale=_UTF8, threads="1")
ELSEWHERE = BuildEnvironment(
    name="some where else", hash_seed="4242", time_zone="America/Los_Angeles", locale="POSIX", threads="2"
)


def plain_job(request: BuildRequest) -> dict[str, object]:
    """The job of building `request` where it was composed."""
    return {
        "recipe": request.recipe,
        "variant": request.variant,
        "overrides": list(request.overrides),
        "spec": request.spec.model_dump(mode="json", by_alias=True) | {"tracking": {"kind": "none"}},
        "config": dict(request.config) | {"tracking": {"kind": "none"}},
        "origins": dict(request.origins),
    }


def build_here(
    request: BuildRequest,
    workspace: Path,
    *,
    root: Path,
    besides: list[Path],
    surroundings: BuildEnvironment | None,
    network: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Build in the working directory, in a process of its own with an empty store below `room`."""
    job = plain_job(request) | {"network": network, "quiet": quiet, "root": str(root)}
    job["besides"] = [str(folder.absolute()) for folder in besides]
    return _run(job, workspace, Path.cwd(), surroundings, None)


def build_from(
    release: Path, resolved: Resolved, workspace: Path, surroundings: BuildEnvironment | None, *, checks: bool = False
) -> dict[str, Any]:
    """Build what a release carries, from its files alone."""
    job = request_in(release, resolved)
    if not checks:
        job["spec"]["checks"] = {}
    project = release / PROJECT
    job |= {"network": False, "quiet": True, "root": str(project), "besides": []}
    folder = project / resolved.working_directory
    folder.mkdir(parents=True, exist_ok=True)
    return _run(job, workspace, folder, surroundings, [str(project / entry) for entry in resolved.python_path])


def _run(
    job: dict[str, Any],
    workspace: Path,
    folder: Path,
    surroundings: BuildEnvironment | None,
    python_path: list[str] | None,
) -> dict[str, object]:
    """Run a job; raises the error that stopped it."""
    for name in ("temporary", "cache"):
        (workspace / name).mkdir(parents=True)
    downloads = _cache() / "downloads"
    if downloads.is_dir():
        (workspace / "cache" / "downloads").symlink_to(downloads.absolute())
    file = workspace / "job.json"
    file.write_text(json.dumps(job | {"outputs": str(workspace / "outputs")}), encoding="utf-8")
    variables = _variables(workspace, surroundings, python_path, network=job["network"])
    done = subprocess.run(
        [sys.executable, "-m", "builder.release.job", str(file)],
        cwd=folder,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if job["quiet"] else None,
        text=True,
        check=False,
        preexec_fn=ending_with_us(),  # this process has one thread
    )
    result = file.with_suffix(".result")
    if done.returncode != 0 or not result.is_file():
        raise UnfitEnvironmentError(
            f"the process that builds ended with exit code {done.returncode}: {(done.stderr or '').strip()[-2000:]}",
            code="B0707",
        )
    answer: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "error" in answer:
        raise _failure(answer["error"])
    return answer


def _variables(
    workspace: Path, surroundings: BuildEnvironment | None, python_path: list[str] | None, *, network: bool
) -> dict[str, str]:
    """The environment of a build; `python_path` replaces the user's, None keeps it."""
    user = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    entries = user if python_path is None else python_path
    variables = {
        **os.environ,
        **(surroundings.variables() if surroundings else {}),
        "PYTHONPATH": os.pathsep.join([*entries, str(_PARENT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(workspace / "temporary"),
        "BUILDER_CACHE": str(workspace / "cache"),
    }
    if not network:
        variables |= dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    return variables


def _cache() -> Path:
    """The user's cache (as `builder.model.sources.download` finds it, which would import torch)."""
    return Path(cache_folder())


def _failure(summary: JsonObject) -> BuilderError:
    """The error of a child."""
    kind = CLASSES[int(summary["code"][1:3]) - 2]
    return kind(summary["message"], code=summary["code"], hint=summary["hint"], key=summary["key"])
