"""The command `coreml-runtime`: `coreml-runtime predict MODEL name=FILE …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from coreml_runtime.errors import InputError, RuntimeFailure

_DESCRIPTION = """Run a .mlpackage, .mlmodel or .aimodel on files, and print what it computes.

Pictures are resized to the input's size; arrays come from .npy files, numbers as they are.

  coreml-runtime predict classifier.mlpackage image=cat.jpg --top 3
"""


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are InputErrors, as wrong inputs are."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 2 for wrong arguments or inputs, or 3 for a model that cannot be loaded or run."""
    try:
        given = _parser().parse_args(arguments)
        return _predict(Path(given.model), given.inputs, given.function, given.top, given.output)
    except InputError as error:
        _complain(error)
        return 2
    except (RuntimeFailure, OSError) as error:
        _complain(error)
        return 3


def _parser() -> argparse.ArgumentParser:
    from coreml_runtime import __version__

    parser = _Parser(prog="coreml-runtime", description=__doc__)
    parser.add_argument("--version", action="version", version=f"coreml-runtime {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="predict")
    predict = verbs.add_parser(
        "predict", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    predict.add_argument("model", help="a .mlpackage, .mlmodel or .aimodel")
    predict.add_argument("inputs", nargs="*", metavar="name=FILE", help="a value for each input of the model")
    predict.add_argument("--output", metavar="FOLDER", help="write output arrays (.npy) and images (.png) there")
    predict.add_argument("--function", metavar="NAME", help="which function of a package that holds several")
    predict.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to print (default: 5)")
    return parser


def _predict(path: Path, inputs: Sequence[str], function: str | None, top: int, output: str | None) -> int:
    from coreml_runtime.files import pairs, read_inputs
    from coreml_runtime.model import load
    from coreml_runtime.shown import detector_labels, labelled, lines, save

    files = pairs(inputs)
    model = load(path, function)
    values = read_inputs(model, files)
    outputs = labelled(model, model.predict(values, state=model.make_state() if model.states else None))
    for text in lines(outputs, detector_labels(model.specification), top):
        print(_visible(text))
    if output is not None:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in outputs.items():
            save(folder, name, value)
    return 0


def _complain(error: Exception) -> None:
    print(f"error: {_visible(str(error))}", file=sys.stderr)
    if hint := getattr(error, "hint", None):
        print(f"  help: {_visible(hint)}", file=sys.stderr)


def _visible(text: str) -> str:
    """Text of a model or a file, with what could move a cursor as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    sys.exit(main())
