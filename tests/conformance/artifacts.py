"""Whether artifacts of recipes travel to every format: python -m tests.conformance.artifacts MODEL….

Each .mlpackage or .mlmodel is exported to pt2, onnx and aimodel, one after the other, as `export` does it; a line of
JSON for each goes to outputs/migration/artifacts.jsonl, and what is there already is not done again. The totals and a
table are part of docs/migration.md, which `python -m tests.conformance.migration` writes.
"""

import argparse
import json
import re
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from builder.errors import BuilderError
from builder.migrate.migrate import migrate, size_of
from builder.migrate.targets import TARGETS, Target

_ROOT = Path(__file__).parents[2]
KEPT = _ROOT / "outputs" / "migration" / "artifacts.jsonl"
TOTALS = _ROOT / "docs" / "migration_artifacts.json"


def judged(file: Path, target: Target) -> dict[str, Any]:
    """What became of one file on its way to one format."""
    name = f"{file.parent.parent.name}/{file.parent.name}"
    row = {"artifact": name, "format": target.name, "ran": date.today().isoformat(), "bytes": size_of(file)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = migrate(file, target, Path(folder) / f"m{target.suffix}")
        except BuilderError as error:
            return row | {"outcome": "refused" if error.exit_code == 4 else "differs", "reason": str(error)[:200]}
    values = [float(each) for line in done.lines for each in re.findall(r"(-?[\d.]+|inf) dB", line)]
    warnings = [line for line in done.warnings if not line.startswith("stage")]
    return row | {
        "outcome": "same", "snr_db": min(values, default=0.0), "made": done.bytes_after, "reason": "; ".join(warnings)
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.artifacts", description=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    given = parser.parse_args()
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    rows = read() if KEPT.exists() else []
    known = {(row["artifact"], row["format"]) for row in rows}
    for file in given.models:
        for target in TARGETS:
            if (f"{file.parent.parent.name}/{file.parent.name}", target.name) in known:
                continue
            row = judged(file, target)
            print(json.dumps(row), flush=True)
            with KEPT.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
    rows = sorted(read(), key=lambda row: (row["artifact"], row["format"]))
    TOTALS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read() -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
