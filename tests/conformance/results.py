"""What is kept of each test, and how a failure is put under a reason."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PREDICTED = "passed"
NO_PREDICTION = "passed without a prediction"
FAILED = "failed"
EXPLAINED = "fails by a wrong expectation"
CONVERT_FAILED = "ct.convert fails"
TEST_FAILED = "the test itself fails before conversion"
SKIPPED = "skipped"
EXPECTED_FAILURE = "expected failure upstream"
KINDS = (PREDICTED, FAILED, EXPLAINED, NO_PREDICTION, CONVERT_FAILED, TEST_FAILED, SKIPPED, EXPECTED_FAILURE)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One test. `reason` says why it did not pass, `detail` with the numbers; `operators` are those that predicted."""

    test: str
    kind: str
    reason: str
    detail: str
    predictions: int
    operators: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results in all files of a folder; the last line of a run that was killed may be cut off, and is left out."""
    lines = (line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text("utf-8").split("\n"))
    return [json.loads(line) for line in lines if line.endswith("}")]


def first_line(text: str) -> str:
    """The part of an error that many tests share: numbers, addresses and names of temporaries left out."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"0x[0-9a-f]+", "0x…", line)
    line = re.sub(r"/\S+/", "…/", line)
    return re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", line)[:160]


def classify_failure(excinfo: Any, predictions: int) -> tuple[str, str]:
    """Kind and reason of a failed test, from where its error was raised."""
    paths = [(str(entry.path), entry.name) for entry in excinfo.traceback]
    reason = f"{excinfo.typename}: {first_line(str(excinfo.value))}"
    ours = any("/coreml_runtime/" in path for path, _ in paths)
    converting = any(path.endswith("converters/_converters_entry.py") and name == "convert" for path, name in paths)
    if converting and not ours:
        return CONVERT_FAILED, reason
    inside = predictions or ours or any(path.endswith("coremltools/models/model.py") for path, _ in paths)
    return (FAILED, reason) if inside else (TEST_FAILED, reason)
