"""How a build ends that is not good: the log that is kept, the limits that were missed, and what to do about them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from builder.artifacts import BuildRecord
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


def require_built(record: BuildRecord, outputs: Path) -> BuildRecord:
    """Return the record of a good build; raises CheckError, which carries it, for a broken one."""
    if record.status == "built":
        return record
    raise _missed_limits(record, outputs)


def _missed_limits(record: BuildRecord, outputs: Path) -> CheckError:
    missed = [f"{check.name} ({check.engine}): {check.reason}" for check in record.checks if check.passed is False]
    earlier = earlier_good_folder(outputs, record.request.recipe, record.variant)
    stale = "" if earlier is None else f"; the artifact in {earlier} is from an earlier build and now stale"
    return CheckError(
        f"{'; '.join(missed)}. The new files are in {record.artifact.path.parent}{stale}",
        code="B0501",
        record=record,
        hint=_remedy(record),
    )


def _remedy(record: BuildRecord) -> str:
    """What to do about missed limits; NaN come from values that half precision does not hold, for the most part."""
    spec, rest = record.request.spec, [one for one in record.request.overrides if not one.startswith("recipe=")]
    values = [value for check in record.checks for value in check.values.values() if isinstance(value, Mapping)]
    if (
        any(value.get("nan_count") for value in values)
        and not isinstance(spec.precision, Fp32)
        and spec.format == "mlpackage"
    ):
        command = shlex.join(["python", "-m", "builder", "debug", f"recipe={record.request.recipe}", *rest])
        return f"`{command}` names all operators whose values half precision cannot hold"
    return "compare values and limits in its report.html; change the recipe, or the limit with a reason"
