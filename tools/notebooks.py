"""Executes the notebooks of docs/notebooks in folders of their own and writes their outputs into them.

`python -m tools.notebooks` does all of them; `make docs` shows what they hold. A slow test executes them, too.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
SECONDS = 900
"""For one cell; a build of a small model on a busy machine takes a minute."""


def executed(file: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of now; raises nbclient's CellExecutionError where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
        for cell in notebook.cells:
            cell.get("metadata", {}).pop("execution", None)  # times, which are others each time
            for output in cell.get("outputs", ()):
                if "text" in output:
                    output["text"] = re.sub(re.escape(folder), "…", output["text"])
    notebook.metadata.pop("language_info", None)
    return notebook


def main() -> int:
    """Execute all notebooks and write them."""
    import nbformat

    for file in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(file), file)
        print(file.name, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
