"""Coverage-guided fuzzing of our own readers, by Atheris: python -m tests.fuzz.guided TARGET [options of libFuzzer].

    python -m tests.fuzz.guided mlmodel -max_total_time=600

Needs `pip install atheris` (Linux and macOS, CPython 3.11 to 3.14). It mutates honest files towards branches that were
not taken yet. An exception that a reader may not raise, an input that takes more than ten seconds, and one that takes
2 GB end the run, and are written to a file in the working directory. Native readers (torch's, onnx's, coremltools') are
not instrumented: `python -m tests.fuzz` has those.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["builder", "coreml_runtime", "yaml"]):
    from builder.config.documents import _parse
    from builder.model.sources.archives import RefusedArchiveError
    from builder.model.sources.exported_archive import refuse_graph
    from builder.model.sources.script_code import refuse_computed_constants
    from builder.model.sources.storages import sizes_of_storages
    from builder.util.reading import parse_json
    from coreml_runtime import RuntimeFailure, load
    from coreml_runtime.coreai.graphs import read_program

from tests.fuzz.damage import parts_of
from tests.fuzz.honest import RECIPE, Honest, make_honest


@dataclass(frozen=True, kw_only=True)
class Guided:
    """A reader of bytes, what it may raise, and an honest file."""

    read: Callable[[bytes], object]
    raises: tuple[type[Exception], ...]
    honest: bytes


def readers(honest: Honest, room: Path) -> dict[str, Guided]:
    """All readers by name; `room` is a folder for those that take a path."""
    script, exported = parts_of(honest.files[".jit"]), parts_of(honest.files[".pt2"])
    code = next(content for name, content in script.items() if name.endswith("linear.py"))

    def load_mlmodel(content: bytes) -> object:
        (room / "m.mlmodel").write_bytes(content)
        return load(room / "m.mlmodel")

    return {
        "yaml": Guided(
            read=lambda content: _parse(Path("r.yaml"), content.decode("utf-8", "replace")),
            raises=(),
            honest=RECIPE.encode(),
        ),
        "json": Guided(read=parse_json, raises=(ValueError,), honest=b'{"a": [1, "\\ud800", null]}'),
        "graph": Guided(
            read=lambda content: refuse_graph(json.loads(content)),
            raises=(RefusedArchiveError, ValueError, RecursionError),
            honest=exported["models/model.json"],
        ),
        "code": Guided(
            read=lambda content: refuse_computed_constants("m.py", content), raises=(RefusedArchiveError,), honest=code
        ),
        "pickle": Guided(read=sizes_of_storages, raises=(RefusedArchiveError,), honest=script["data.pkl"]),
        "mlmodel": Guided(read=load_mlmodel, raises=(RuntimeFailure,), honest=honest.files[".mlmodel"]),
        "aimodel": Guided(read=read_program, raises=(RuntimeFailure,), honest=honest.aimodel["main.mlirb"]),
    }


def main(arguments: Sequence[str]) -> None:
    """Fuzz one reader until libFuzzer's options say that it is enough; a finding ends the process with code 77."""
    name, *options = arguments
    with tempfile.TemporaryDirectory(prefix="guided-") as folder:
        room = Path(folder)
        chosen = readers(make_honest(room / "honest"), room)[name]
        corpus = room / "corpus"
        corpus.mkdir()
        (corpus / "honest").write_bytes(chosen.honest)

        def one(content: bytes) -> None:
            try:
                chosen.read(content)
            except chosen.raises:
                return

        limits = ["-timeout=10", "-rss_limit_mb=4096", "-max_len=65536"]
        atheris.Setup([sys.argv[0], str(corpus), *limits, *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
