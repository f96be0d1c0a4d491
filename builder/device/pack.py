"""The folder that goes to a Mac: the artifact, golden inputs with what our runtime computes of them, and the script."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from builder.artifacts.stages import Sample
from builder.backends import backend_of
from builder.checks.limits import parity_limits
from builder.data import default_data, draw_samples
from builder.data.wording import is_drawn
from builder.errors import ConfigurationError, SourceError
from builder.spec import BuildSpec
from builder.spec.checks import ComparisonLimits, ParityCheck
from builder.spec.coverage import data_of
from builder.spec.functions import specs_by_function
from builder.spec.named_data import spec_of
from builder.util.locations import shown
from builder.util.paths import publish, writing
from coreml_runtime import load
from coreml_runtime.errors import RuntimeFailure

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

PACK, SCRIPT, GOLDEN = "pack.json", "measure.py", "golden"
SAMPLES = 3
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A build that is measured, as its `build.json` says."""

    recipe: str
    variant: str
    artifact: Path
    digest: str
    spec: BuildSpec


def subject_of(document: JsonObject) -> Subject:
    """From the document of a build. Raises ConfigurationError where a Mac cannot measure it by coremltools."""
    artifact = document["artifact"]
    spec = spec_of(document["config"])
    require_measurable(spec)
    return Subject(
        recipe=document["recipe"],
        variant=document["variant"],
        artifact=Path(artifact["path"]),
        digest=artifact["digest"],
        spec=spec,
    )


def require_measurable(spec: BuildSpec) -> None:
    """Raise ConfigurationError for what a Mac cannot measure by coremltools."""
    if not backend_of(spec.format).runs_on_macs:
        raise ConfigurationError(
            f"the format is {spec.format}, and coremltools measures Core ML models",
            code="B0227",
            hint="Core AI assets are profiled by Xcode's instruments",
        )


def pack(subject: Subject, folder: Path) -> Path:
    """Write the folder, which must not exist or be empty, and return it.

    Raises ConfigurationError where something lies there, SourceError where the runtime cannot execute the artifact.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{shown(folder)} exists and is not an empty folder", code="B0227", hint="give another by `-o`"
        )
    parent = folder.absolute().parent
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=f".{folder.name}.") as workspace:
            made = Path(workspace) / folder.name
            _fill(made, subject)
            publish(made, folder.absolute())
    return folder


def _fill(folder: Path, subject: Subject) -> None:
    (folder / GOLDEN).mkdir(parents=True)
    place = folder / subject.artifact.name
    if subject.artifact.is_dir():
        shutil.copytree(subject.artifact, place)
    else:
        shutil.copy2(subject.artifact, place)
    pictures = _golden(subject, folder / GOLDEN)
    (folder / SCRIPT).write_bytes(files("builder.device").joinpath(SCRIPT).read_bytes())
    document = {
        "schema": SCHEMA,
        "recipe": subject.recipe,
        "variant": subject.variant,
        "artifact": subject.digest,
        "file": subject.artifact.name,
        "function": next(iter(subject.spec.functions), ""),
        "stateful": bool(subject.spec.state),
        "samples": SAMPLES,
        "pictures": pictures,
        "files": dict(_digests(folder)),
    }
    (folder / PACK).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()


def _golden(subject: Subject, folder: Path) -> dict[str, str]:
    """Write inputs and outputs as arrays; returns by input that is a picture its mode in PIL's words."""
    function, spec = next(iter(specs_by_function(subject.spec).items()))
    try:
        model = load(subject.artifact, function or None)
        state = model.make_state() if model.states else None
        pictures: dict[str, str] = {}
        inputs: dict[str, np.ndarray] = {}
        outputs: dict[str, np.ndarray] = {}
        for number, sample in enumerate(_samples(spec)):
            given = {name: value for name, value in sample.given.items() if name in model.inputs}
            answer = model.predict(given, state=state)
            pictures |= {name: value.mode for name, value in given.items() if isinstance(value, Image.Image)}
            inputs |= {f"{number}/{name}": np.asarray(value) for name, value in given.items()}
            outputs |= {f"{number}/{name}": value for name, value in as_arrays(answer)}
    except RuntimeFailure as error:
        raise SourceError(f"the artifact cannot be executed: {error}", code="B0302") from error
    for name, arrays in (("inputs", inputs), ("outputs", outputs)):
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for allow_pickle
    return pictures


def _samples(spec: BuildSpec) -> Sequence[Sample]:
    """What the parity check takes, where that comes along with builder: a user's own samples are not given away."""
    check = parity_check(spec)
    data = None if check is None else data_of(check, spec)
    data = data if data is not None and is_drawn(data.kind) else default_data(spec)
    return draw_samples(data, spec.artifact_inputs, SAMPLES, spec.seed)[:]


def parity_check(spec: BuildSpec) -> ParityCheck | None:
    """The first one of a recipe."""
    return next((check for check in spec.checks.values() if isinstance(check, ParityCheck)), None)


def device_limits(spec: BuildSpec) -> dict[str, Any]:
    """How far a device may be from what the runtime computes of the same artifact: the parity check's limits.

    Those of compression are left out: they say how far the artifact may be from the original, not from itself.
    """
    whole = spec.model_copy(update={"compression": {}})
    return parity_limits(whole, parity_check(spec) or ComparisonLimits())


def as_arrays(outputs: Mapping[str, object]) -> Iterator[tuple[str, np.ndarray]]:
    """Outputs as `measure.py` writes them: probabilities in the order of their labels' texts, no texts."""
    for name, value in outputs.items():
        if isinstance(value, Mapping):
            yield name, np.array([value[key] for key in sorted(value, key=str)], dtype=np.float32)
        elif (array := np.asarray(value)).dtype.kind in "biuf":
            yield name, array
