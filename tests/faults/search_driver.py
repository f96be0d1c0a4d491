"""`python search_driver.py ARGUMENTS`: builder with builds that answer at once, for tests of the search around them.

A build's size and quality follow from its arguments, so that the same trial always measures the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from builder.__main__ import main
from builder.jobs import local
from builder.jobs.jobs import Exit, Task


class Build:
    """A build that has ended when it is first looked at."""

    pid = 1

    def __init__(self, task: Task) -> None:
        arguments = [word for word in task.command if "=" in word]
        number = int(hashlib.sha256(" ".join(arguments).encode()).hexdigest(), 16)
        self.code = 4 if number % 11 == 0 else 0
        artifact = Path(task.folder, "outputs", "x", f"{number % 10**12}", "x.mlpackage")
        artifact.parent.mkdir(parents=True, exist_ok=True)
        (artifact.parent / "build.json").write_text(json.dumps(document(number, artifact)))
        Path(task.out).write_text(f"{artifact}\n" if self.code == 0 else "")
        Path(task.log).write_text("error[B0401]: it cannot be converted\n" if self.code else "")
        with Path(task.folder, "built.txt").open("a") as stream:
            stream.write(" ".join(arguments) + "\n")

    def ended(self) -> Exit:
        return Exit(code=self.code, seconds=0.5)

    def stop(self) -> None: ...

    def kill(self) -> None: ...


def document(number: int, artifact: Path) -> dict[str, Any]:
    check = {"name": "parity", "kind": "parity", "engine": "runtime", "limits": {}, "passed": True, "reason": None}
    values = {"output": {"snr_db": float(number % 97)}}
    return {
        "schema": 1,
        "recipe": "x",
        "variant": artifact.parent.name,
        "artifact": {"path": artifact.name, "bytes": 1000 + number % 89, "digest": f"sha256:{number % 10**9}"},
        "checks": [{**check, "values": values, "samples": 4}],
    }


if __name__ == "__main__":
    local.Process = Build  # type: ignore[assignment,misc]
    local.can_fork = lambda: False
    sys.exit(main(sys.argv[1:]))
