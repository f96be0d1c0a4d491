"""Fuzzes every reader: python -m tests.fuzz [TARGET=COUNT …] [--seed N] [--write]; `--write` renews docs/fuzzing.md.

A fault is exit code 1, a traceback, a crash, a command that takes more than a minute, control characters in what is
printed, a failure without a word, a file outside of the project, or a process that grows. Examples follow from the seed
alone; what fails is copied to `outputs/fuzz/`, where each batch adds to the totals with which `--go-on` goes on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import tempfile
from pathlib import Path

from tests.fuzz.honest import make_honest
from tests.fuzz.targets import targets
from tests.fuzz.worker import Total, fuzz

_ROOT = Path(__file__).parents[2]
_PAGE, _TOTALS = _ROOT / "docs/fuzzing.md", _ROOT / "docs/fuzzing.json"


def main() -> int:
    """Run targets; returns 1 where a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET[=COUNT]", help="all, with their whole counts, unless given"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the counts, where none is given")
    parser.add_argument("--minutes", type=float, default=math.inf, help="for each target at most, in whole batches")
    parser.add_argument("--write", action="store_true", help="write the totals to docs/fuzzing.md")
    parser.add_argument("--go-on", action="store_true", help="after the batches that earlier runs of this seed did")
    given = parser.parse_args()
    _import_all()
    faults = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-honest-") as room:
        known = targets(make_honest(Path(room)))
        for text in given.targets or known:
            name, _, count = text.partition("=")
            wanted = int(count) if count else max(1, round(known[name].count * given.share))
            total = fuzz(known[name], wanted, given.seed, Path("outputs/fuzz"), 60 * given.minutes, goes_on=given.go_on)
            _report(name, total)
            faults += len(total.faults)
            if given.write:
                _write(name, total, given.seed)
    return 1 if faults else 0


def _import_all() -> None:
    """Import what commands would, so that every process has it."""
    from builder.cli.sweep_worker import import_shared

    import_shared()


def _report(name: str, total: Total) -> None:
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(total.codes.items()))
    grown = f"grew by {total.growth >> 20} MB"
    print(
        f"{name}: {total.examples} examples, {total.commands} commands in {total.seconds:.0f} s; {codes}; slowest "
        f"{total.slowest:.1f} s; {grown}; {len(total.faults)} faults",
        flush=True,
    )
    for fault in total.faults:
        print(f"  {fault}", flush=True)


def _write(name: str, total: Total, seed: int) -> None:
    """Put one target's totals among those of the last runs, and write the page anew."""
    rows = json.loads(_TOTALS.read_text(encoding="utf-8")) if _TOTALS.exists() else {}
    rows[name] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": seed,
        "examples": total.examples,
        "commands": total.commands,
        "codes": dict(sorted(total.codes.items())),
        "slowest": round(total.slowest, 1),
        "growth": total.growth >> 20,
        "seconds": round(total.seconds),
        "faults": len(total.faults),
    }
    _TOTALS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    lines = [
        f"| {name} | {row['date']} | {row['seed']} | {row['examples']:,} | {row['commands']:,} | "
        + ", ".join(f"{code}: {count:,}" for code, count in row["codes"].items())
        + f" | {row['slowest']} s | {row['growth']} MB | {row['faults']} |"
        for name, row in sorted(rows.items())
    ]
    _PAGE.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


_HEAD = """# Fuzzing

`make fuzz` feeds every reader with what nobody meant: recipes and command lines, packages and archives with damaged
bytes, parts, documents, links, pipes and devices, pictures and arrays, records of builds, packs of devices, stores,
releases. `python -m tests.fuzz --help` says more,
`tests/fuzz/` has the strategies. Examples follow from the seed alone. A fault is exit code 1, a traceback, a crash, a
command that takes more than a minute, control characters in what is printed, a failure without a word, a file outside
of the project, or a process that grows by more than 256 MB over 250 examples.

`python -m tests.fuzz.guided TARGET` (Atheris: `pip install --group fuzz`) mutates files towards branches of our own
readers that were not taken yet: `yaml`, `json`, `graph` (of `.pt2`), `code` and `pickle` (of TorchScript), `mlmodel`,
`aimodel`.

The last runs, written by `python -m tests.fuzz --write`; codes are how many commands ended with each exit code:

| target | date | seed | examples | commands | exit codes | slowest | growth | faults |
|---|---|---|---:|---:|---|---:|---:|---:|
"""


if __name__ == "__main__":
    raise SystemExit(main())
