"""The files that a build reads are seen: opened ones and imported modules, not written ones, not installed ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.unit.release.project import REPOSITORY

WATCHED = """
import json, sys
from pathlib import Path
from builder.release.watching import Watch, foreign_code, project_files
root = Path(sys.argv[1])
watch = Watch()
(root / "read.txt").read_text()
(root / "written.txt").write_text("x")
(root / "outputs" / "read.txt").read_text()
sys.path[:0] = [str(root), str(root.parent / "elsewhere")]
import mine, foreign, json.tool, numpy
files = watch.files()
print(json.dumps([
    [str(path.relative_to(root)) for path in project_files(files, root, besides=[root / "outputs"])],
    [path.name for path in foreign_code(files, root)],
]))
"""


def test_what_a_process_reads_is_seen(tmp_path: Path) -> None:
    # given a project with code and data, and code that lies elsewhere
    root, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (root / "outputs", elsewhere):
        folder.mkdir(parents=True)
    for file in (root / "read.txt", root / "outputs" / "read.txt", root / "unread.txt", root / "mine.py"):
        file.write_text("")
    (elsewhere / "foreign.py").write_text("")
    # when a process reads, writes and imports
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(root.resolve())],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    # then the project's files are those that it read, and the code from elsewhere is known as such
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["mine.py", "read.txt"], ["foreign.py"]]
