"""From a Core ML file to a file of another format: export, write, execute both, and only then put it in its place."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.artifacts.checks import CheckReport
from builder.errors import BuilderError, ConfigurationError, ConversionError, SourceError
from builder.migrate.original import Original, specs_of
from builder.migrate.proof import Proof, innermost, prove, refuse_difference
from builder.migrate.targets import Target
from builder.model.sources.coreml import path_digest
from builder.util.paths import DISK_FULL, NOT_WRITABLE, first_failure
from builder.util.text import size
from coreml_runtime import InputError, ModelError, RuntimeFailure, UnsupportedError, load
from coreml_runtime.dtypes import Precision
from coreml_runtime.export import Exported, export
from coreml_runtime.export.pipelines import only_network
from coreml_runtime.labels import labels_of
from coreml_runtime.model import Model
from coreml_runtime.pipeline import Pipeline

_BESIDE_WEIGHTS = 500_000
"""Bytes that the program itself and its names may take more in one format than in another."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What was written, and what the user has to know of it."""

    path: Path
    proof: Path
    operators: int
    bytes_before: int
    bytes_after: int
    warnings: tuple[str, ...]
    lines: tuple[str, ...]
    """What was compared, a line each."""


def migrate(path: Path, target: Target, destination: Path, *, function: str | None = None) -> Migrated:
    """Write the network in `path` to `destination`, which must not exist, and its proof beside it.

    Raises SourceError (the file cannot be read), ConversionError (operators that cannot be exported, by name),
    CheckError (both ends differ; nothing is left behind) and UnfitEnvironmentError (something is not installed).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own use of what it deprecates
        return _migrate(path, target, destination, function)


def _migrate(path: Path, target: Target, destination: Path, function: str | None) -> Migrated:
    target.check_installed()
    exported, original, exacts = _opened(path, target, function)
    _check_draws(exported, target)
    inputs = specs_of(exported, original)
    with tempfile.TemporaryDirectory(prefix=".builder-export-", dir=destination.parent) as folder:
        made = Path(folder) / f"model{target.suffix}"
        try:
            notes = target.write_file(exported, inputs, made)
            proof = prove(
                original,
                exacts,
                inputs,
                target.engines(exported, made),
                half=exported.has_half,
                sizing=exported.needs.sizing,
            )
        except BuilderError:
            raise
        except OSError as error:
            if first_failure(error).errno not in DISK_FULL | NOT_WRITABLE:
                raise _unwritten(target, error) from error
            raise
        except RuntimeFailure as error:
            raise ConversionError(
                f"nothing can be proven, since the original does not run on what was drawn for it: {error}",
                code="B0419",
            ) from error
        except Exception as error:  # writers and engines of other formats have types of their own
            raise _unwritten(target, error) from error
        refuse_difference(proof, f"the {target.name}")
        record = Path(folder) / "proof.json"
        record.write_text(json.dumps(_record(path, made, target, proof), indent=2, sort_keys=True) + "\n")
        before, after = size_of(path), size_of(made)
        made.rename(destination)
        record.rename(proof_file(destination))
    return Migrated(
        path=destination,
        proof=proof_file(destination),
        operators=sum(node.op == "call_function" for node in exported.program.graph.nodes),
        bytes_before=before,
        bytes_after=after,
        warnings=(
            *_warnings(exported),
            *_other_functions(exported, function),
            *notes,
            *_larger(before, after),
            *_inconclusive(proof),
        ),
        lines=tuple(_lines(proof)),
    )


def _unwritten(target: Target, error: Exception) -> ConversionError:
    return ConversionError(
        f"it cannot be written as {target.name}: {innermost(error)}",
        code="B0418",
        hint="another format may hold it: `--to` takes pt2, onnx and aimodel",
    )


def _check_draws(exported: Exported, target: Target) -> None:
    """Raise ConversionError where the model draws random numbers, and the format's engine draws others."""
    if exported.needs.draws and not target.draws:
        raise ConversionError(
            f"the model draws random numbers ({', '.join(exported.needs.draws)}); {target.name} would draw others, and "
            "nothing could be proven",
            code="B0418",
            hint="export it to pt2, whose numbers come from torch's generator as those of builder's runtime do",
        )


def proof_file(destination: Path) -> Path:
    """Where the proof of a file lies."""
    return destination.with_name(f"{destination.name}.proof.json")


def _opened(path: Path, target: Target, function: str | None) -> tuple[Exported, Original, list[Original]]:
    """The program, the file as the runtime executes it, and the same rounded to half nowhere, or as torch does."""
    try:
        exported = export(path, function, target.precision)
        ways: tuple[Precision, ...] = ("half", "fast", "native") if exported.has_half else ("half", "fast")
        models = [_executed(load(path, function, precision)) for precision in ways]
    except InputError as error:
        raise ConfigurationError(str(error), code="B0226", hint="name one with --function") from error
    except UnsupportedError as error:
        raise ConversionError(
            str(error), code="B0417", hint="what is named has no counterpart in other formats"
        ) from error
    except ModelError as error:
        raise SourceError(str(error), code="B0302") from error
    original, *others = (
        Original(model=model, outputs=exported.outputs, labels=labels_of(exported.specification)) for model in models
    )
    return exported, original, others


def _executed(model: Model) -> Model:
    """What the program is compared with: of a pipeline with one network, that network."""
    place = only_network(model.specification)
    return model if place is None or not isinstance(model.network, Pipeline) else model.network.stages[place]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _warnings(exported: Exported) -> list[str]:
    found = [
        f"input {name}: sizes that the original leaves open are fixed at their default: an operator is written out for "
        "each" for name in exported.fixed
    ]  # fmt: skip
    if exported.needs.draws:
        found.append(
            f"{', '.join(exported.needs.draws)}: random numbers, drawn anew in every call from torch's generator; the "
            "proof is for the same state of the generator at both ends"
        )
    for one, other in exported.needs.tied:
        found.append(f"axis {one[1]} of input {one[0]} must be as long as axis {other[1]} of input {other[0]}")
    return [*found, *exported.left]


def _other_functions(exported: Exported, function: str | None) -> list[str]:
    """The functions that are left behind where nobody said which one is meant."""
    description = exported.specification.description
    names = [entry.name for entry in description.functions]
    if function is not None or len(names) < 2:
        return []
    default = description.defaultFunctionName or names[0]
    others = ", ".join(name for name in names if name != default)
    return [f"this is the function {default}; the file also has {others}, which `--function` names"]


def _larger(before: int, after: int) -> list[str]:
    """Say so where weights lost their compression; what formats need beside weights is not of interest."""
    if after <= 1.1 * before + _BESIDE_WEIGHTS:
        return []
    return [f"{size(after)}, where the original has {size(before)}"]


def _inconclusive(proof: Proof) -> list[str]:
    return [f"{report.engine} proves nothing: {report.reason}" for report in proof.reports if report.passed is None]


def _lines(proof: Proof) -> list[str]:
    lines = []
    for report in proof.reports:
        stressed = report.values.get("stress", {})
        count = f"{report.samples} samples" + (f" and {stressed['inputs']} stress inputs" if stressed else "")
        shown = ", ".join(_shown(name, values) for name, values in report.values.items())
        lines.append(f"{report.verdict} in {report.engine}: {shown}; {count}")
    return lines


def _shown(name: str, values: Mapping[str, object]) -> str:
    if "snr_db" in values:
        return f"{name} {values['snr_db']:.1f} dB"
    return f"{name} {values['agreement']:.4g} equal" if "agreement" in values else name


def _record(path: Path, made: Path, target: Target, proof: Proof) -> dict[str, object]:
    """The proof as JSON: which files, which engines, which numbers, which versions."""
    from importlib.metadata import version

    from builder import __version__

    return {
        "original": {"file": path.name, "sha256": path_digest(path), "bytes": size_of(path)},
        "result": {"format": target.name, "sha256": path_digest(made), "bytes": size_of(made)},
        "checks": [_check(report) for report in proof.reports],
        "stress_inputs": {"compared": proof.stressed, "refused_by_the_original": proof.refused},
        "versions": {"builder": __version__, **{name: version(name) for name in ("torch", "numpy")}},
    }  # fmt: skip


def _check(report: CheckReport) -> dict[str, object]:
    return {
        "engine": report.engine,
        "verdict": report.verdict,
        "reason": report.reason,
        "samples": report.samples,
        "limits": dict(report.limits),
        "values": {name: _plain(values) for name, values in report.values.items()},
    }


def _plain(values: Mapping[str, object]) -> dict[str, Any]:
    """Measures as JSON holds them: infinity as text."""
    import math

    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
