"""What comes back from a device: read with its digests, judged by the recipe's limits, and attached to the build."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from builder.artifacts.checks import CheckReport
from builder.artifacts.devices import UNITS, DeviceMeasurement, UnitMeasurement
from builder.checks.comparison import judge
from builder.device.pack import GOLDEN, PACK, Subject, device_limits
from builder.errors import CheckError, VerificationError
from builder.reports.build_json import read_build_json
from builder.util.locations import shown
from builder.util.npz import read_npz
from builder.util.paths import variant_folder
from builder.util.reading import UnfitFileError, is_inner_path, parse_json, read_regular

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_MOST = 1 << 30
"""Bytes of a file of outputs."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Device(_Strict):
    model: str = Field(min_length=1)
    chip: str
    system: str


class _Measured(_Strict):
    latency_ms: float = Field(ge=0)
    latency_p95_ms: float = Field(ge=0)
    rounds: int = Field(ge=1)
    load_cold_ms: float = Field(ge=0)
    load_warm_ms: float = Field(ge=0)
    peak_bytes: int = Field(ge=0)
    placement: dict[str, int] | None
    placement_reason: str
    outputs: str
    sha256: str


class _Failed(_Strict):
    failed: str


class Returned(_Strict):
    """`device.json`, as `measure.py` writes it."""

    schema_: int = Field(alias="schema", ge=1, le=1)
    pack: str
    artifact: str
    stand_in: bool
    device: _Device
    tools: dict[str, str]
    started: str
    units: dict[str, _Measured | _Failed]


class _Pack(BaseModel):
    """What is read of `pack.json`, as `pack` writes it; it comes back from another machine."""

    model_config = ConfigDict(strict=True)

    recipe: str
    variant: str
    artifact: str
    samples: int
    files: dict[str, str]

    @model_validator(mode="after")
    def _stays_inside(self) -> _Pack:
        if not all(map(is_inner_path, (self.recipe, self.variant, *self.files))):
            raise ValueError("it names something outside of its folder")
        return self


def read_returned(file: Path) -> Returned:
    """Read a `device.json`. Raises VerificationError where it is damaged or not one."""
    content = _content(file)
    try:
        return Returned.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise VerificationError(
            f"{shown(file)} is not what measure.py writes{f', at {where}' if where else ''}: {first['msg'].lower()}",
            code="B0611",
            hint="copy it again, or measure again",
        ) from error


def packed_build(folder: Path, outputs: Path) -> dict[str, object]:
    """The record of the build that was packed into a folder. Raises VerificationError where it is gone."""
    pack = _read_pack(_content(folder / PACK), folder)
    place = variant_folder(outputs, pack["recipe"], pack["variant"])
    try:
        return read_build_json(place)
    except (FileNotFoundError, ValueError) as error:
        raise VerificationError(
            f"there is no build of {pack['recipe']} ({pack['variant']}) in {shown(outputs)}: {error}",
            code="B0611",
            hint="`--outputs FOLDER` says where builds lie",
        ) from error


def _read_pack(content: bytes, folder: Path) -> dict[str, Any]:
    try:
        return _Pack.model_validate(parse_json(content)).model_dump()
    except ValueError as error:  # pydantic's ValidationError is one
        raise _refused(f"{shown(folder / PACK)} is damaged: {' '.join(str(error).split())[:200]}") from error


def measured(returned: Returned, results: Path, folder: Path, subject: Subject) -> DeviceMeasurement:
    """Hold what a device returned into `results` against the pack in `folder` and the build, and judge its outputs.

    Raises VerificationError where a digest is another one, CheckError where outputs miss a limit, or no unit could be
    measured.
    """
    pack = _pack(folder, returned, subject)
    golden = _golden(folder / GOLDEN / "outputs.npz", pack["samples"])
    units, failed = {}, {}
    for name, found in returned.units.items():
        if name not in UNITS:
            raise _refused(f"there are no compute units {name!r}")
        if isinstance(found, _Failed):
            failed[name] = found.failed
        else:
            units[name] = _unit(name, found, results, golden, subject)
    if not units:
        reasons = "; ".join(f"{name}: {why}" for name, why in failed.items()) or "no unit was asked for"
        raise CheckError(f"nothing could be measured: {reasons}", code="B0502")
    return DeviceMeasurement(
        artifact=subject.digest,
        model=returned.device.model,
        chip=returned.device.chip,
        system=returned.device.system,
        tools=returned.tools,
        started=returned.started,
        samples=len(golden),
        units=units,
        failed=failed,
        stand_in=returned.stand_in,
    )


def _pack(folder: Path, returned: Returned, subject: Subject) -> JsonObject:
    """The description of the pack, which must be the one that was measured, whole, and of this build."""
    content = _content(folder / PACK)
    if hashlib.sha256(content).hexdigest() != returned.pack:
        raise _refused(f"it was measured with another pack than {shown(folder)}")
    pack = _read_pack(content, folder)
    for name, wanted in pack["files"].items():
        if name.startswith(f"{GOLDEN}/") and hashlib.sha256(_content(folder / name)).hexdigest() != wanted:
            raise _refused(f"{name} is not the file that was packed")
    if not returned.artifact == pack["artifact"] == subject.digest:
        raise VerificationError(
            f"the artifact that was measured ({returned.artifact[:19]}…) is not the build's ({subject.digest[:19]}…)",
            code="B0611",
            hint="the build was made anew since: pack and measure it again",
        )
    return pack


def _unit(
    name: str, found: _Measured, results: Path, golden: list[dict[str, torch.Tensor]], subject: Subject
) -> UnitMeasurement:
    if Path(found.outputs).name != found.outputs:
        raise _refused(f"{found.outputs!r} is not a file beside it")
    content = _content(results / found.outputs)
    if hashlib.sha256(content).hexdigest() != found.sha256:
        raise _refused(f"{found.outputs} is not the file that was written: it is damaged, or not whole")
    given = _by_sample(_read_npz(content, found.outputs), golden, name)
    report = judge(
        name=name, kind="parity", engine="coreml", references=golden, results=given, scores=None,
        limits=device_limits(subject.spec),
    )  # fmt: skip
    if report.passed is False:
        raise CheckError(
            f"on {UNITS[name]} the device computes something else than the artifact says: {report.reason}",
            code="B0502",
            hint="the outputs are beside device.json; `python -m builder lint` names operators whose numbers go wrong",
        )
    kept = {key: value for key, value in found.model_dump().items() if key not in ("outputs", "sha256")}
    return UnitMeasurement(**kept, differences=_differences(report))


_SHOWN = ("snr_db", "max_abs", "agreement")


def _differences(report: CheckReport) -> dict[str, dict[str, float]]:
    """By output, the measures that people ask for."""
    return {
        output: {name: float(values[name]) for name in _SHOWN if values.get(name) is not None}
        for output, values in report.values.items()
    }


def _by_sample(
    arrays: Mapping[str, torch.Tensor], golden: list[dict[str, torch.Tensor]], unit: str
) -> list[dict[str, torch.Tensor]]:
    """The outputs of each sample, which must be those that the pack has."""
    wanted = {f"{number}/{name}" for number, outputs in enumerate(golden) for name in outputs}
    if arrays.keys() != wanted:
        other = ", ".join(sorted(arrays.keys() ^ wanted)[:3])
        raise _refused(f"{unit} has other outputs than the pack: {other}")
    return [{name: arrays[f"{number}/{name}"] for name in outputs} for number, outputs in enumerate(golden)]


def _golden(file: Path, samples: int) -> list[dict[str, torch.Tensor]]:
    """By sample, what the runtime computed."""
    arrays = _read_npz(_content(file), file.name)
    if not 0 < samples <= len(arrays):
        raise _refused(f"{PACK} says {samples} samples, and {file.name} has {len(arrays)} arrays")
    found: dict[str, dict[str, torch.Tensor]] = {str(number): {} for number in range(samples)}
    for key, value in arrays.items():
        number, _, name = key.partition("/")
        if number not in found:
            raise _refused(f"{file.name} has an output of a sample that the pack does not have: {key:.80}")
        found[number][name] = value
    return [*found.values()]


def _read_npz(content: bytes, name: str) -> dict[str, torch.Tensor]:
    try:
        return {each: torch.from_numpy(np.array(value)) for each, value in read_npz(io.BytesIO(content)).items()}
    except (ValueError, TypeError) as error:  # TypeError: torch has no such type
        raise _refused(f"{name} cannot be read: {error}") from error


def _content(file: Path) -> bytes:
    try:
        return read_regular(file, most=_MOST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _refused(f"{shown(file)} is missing") from error
    except UnfitFileError as error:
        raise _refused(f"{shown(file)} {error.strerror}") from error


def _refused(message: str) -> VerificationError:
    return VerificationError(
        f"the measurement is not taken: {message}", code="B0611", hint="copy it again, or measure again"
    )
