"""Build every variant in this process and print its digest; run by the test in two unlike environments."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from builder.__main__ import main

QUIET = ["checks=none", "tracking=none", "-q"]

VARIANTS: dict[str, list[str]] = {
    "mlpackage": ["recipe=repro"],
    "exported": ["recipe=repro", "capture.method=export"],
    "mlmodel": ["recipe=repro", "format=mlmodel", "target=ios14"],
    "mlmodel fp32": ["recipe=repro", "format=mlmodel", "target=ios14", "precision=fp32"],
    "seeded": ["recipe=repro", "source.file=null", "source.seed=3"],
    **{
        name: ["recipe=repro", f"compression={name}", "target=ios18"]
        for name in ("int8", "int4", "palettize_8", "palettize_6", "palettize_4", "palettize_2", "prune_50")
    },
}
"""What is built: both formats, both ways to capture, weights from a file and seeded ones, each compression."""


def build_all(outputs: Path, variants: Sequence[str]) -> dict[str, str]:
    """Build each of these variants below a folder of its own and return the digests that `build.json` tells."""
    digests = {}
    for name in variants:
        folder = outputs / name.replace(" ", "_")
        code = main([*VARIANTS[name], *QUIET, "--outputs", str(folder)])
        if code:
            raise SystemExit(f"{name}: exit code {code}")
        (record,) = folder.rglob("build.json")
        digests[name] = json.loads(record.read_text())["artifact"]["digest"]
    return digests


if __name__ == "__main__":
    found = build_all(Path(sys.argv[1]), sys.argv[3:])
    Path(sys.argv[2]).write_text(json.dumps(found))
