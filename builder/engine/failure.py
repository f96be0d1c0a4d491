"""How a build ends that is not good: the log that is kept, the limits that were missed, and what to do about them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from builder.artifacts.record import BuildRecord
from builder.errors import CheckError, ConversionError
from builder.spec.precision import Fp32
from builder.util.locations import shown
from builder.util.paths import carry_over, earlier_good_folder, publish


def with_log(error: ConversionError, folder: Path, broken: Path) -> ConversionError:
    """Publish `build.log` alone, which has what coremltools said, and return the error with where it is."""
    for path in folder.iterdir():
        if path.name != "build.log":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    carry_over(broken, folder, broken.parent.name)
    publish(folder, broken)
    message = f"all that was said is in {shown(broken / 'build.log')}"
    return error.replaced(hint=message if error.hint is None else f"{error.hint}; {message}")


def require_built(record: BuildRecord, outputs: Path, *, stays: bool = True) -> BuildRecord:
    """Return the record of a good build; raises CheckError, which carries it, for a broken one.

    Where `outputs` does not stay, the error names no file in it.
    """
    if record.status == "built":
        return record
    raise _missed_limits(record, outputs, stays=stays)


def _missed_limits(record: BuildRecord, outputs: Path, *, stays: bool) -> CheckError:
    missed = [f"{check.name} ({check.engine}): {check.reason}" for check in record.checks if check.passed is False]
    earlier = earlier_good_folder(outputs, record.request.recipe, record.variant)
    stale = "" if earlier is None else f"; the artifact in {earlier} is from an earlier build and now stale"
    place = f". The new files are in {record.artifact.path.parent}{stale}" if stays else ""
    hint = _remedy(record) if stays else f"`{_command(record)}` builds it in outputs/, with a report"
    return CheckError(f"{'; '.join(missed)}{place}", code="B0501", record=record, hint=hint)


def _command(record: BuildRecord, *verb: str) -> str:
    """A command about this build, such as the one that makes it."""
    rest = [one for one in record.request.overrides if not one.startswith("recipe=")]
    return shlex.join(["python", "-m", "builder", *verb, f"recipe={record.request.recipe}", *rest])


def _remedy(record: BuildRecord) -> str:
    """What to do about missed limits; NaN come from values that half precision does not hold, for the most part."""
    spec = record.request.spec
    values = [value for check in record.checks for value in check.values.values() if isinstance(value, Mapping)]
    if (
        any(value.get("nan_count") for value in values)
        and not isinstance(spec.precision, Fp32)
        and spec.format_kind.is_analysed
    ):
        return f"`{_command(record, 'debug')}` names all operators whose values half precision cannot hold"
    return "compare values and limits in its report.html; change the recipe, or the limit with a reason"
