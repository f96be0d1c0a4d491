"""`python -m builder predict MODEL input=file …`: runs an artifact on pictures and arrays, on any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.cli.arguments import Parser, model_file, verbosity
from builder.errors import ConfigurationError, ConversionError, SourceError
from builder.util.reading import open_regular
from builder.util.text import visible

DESCRIPTION = """Run a .mlpackage, .mlmodel or .aimodel on files with builder's own runtime, and print what it says.

Pictures are resized to the input's size; arrays come from .npy files, numbers as they are.

  python -m builder predict outputs/mobilenet_v2_fp16/default/mobilenet_v2_fp16.mlpackage image=cat.jpg
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("predict", DESCRIPTION, usage="predict MODEL name=FILE … [--output FOLDER] [--top N]")
    made.add_argument("model", help="a .mlpackage, .mlmodel or .aimodel")
    made.add_argument("inputs", nargs="*", metavar="name=FILE", help="a value for each input of the model")
    made.add_argument("--output", metavar="FOLDER", help="write output arrays (.npy) and images (.png) there")
    made.add_argument("--function", metavar="NAME", help="which function of a package that holds several")
    made.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to print (default: 5)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Predict and print; returns the exit code."""
    given = parser().read(arguments)
    path = model_file(given.model)
    from builder.reports.working import working
    from coreml_runtime.shown import detector_labels, lines, save

    with working("predicting", path.absolute(), verbosity=verbosity(given)):
        model, outputs = _predict(path, given.inputs, given.function)
    folder = _folder(given.output)
    for text in lines(outputs, detector_labels(model.specification), given.top):
        print(visible(text))
    if folder is not None:
        for name, value in outputs.items():
            save(folder, name, value)
    return 0


def _predict(path: Path, arguments: Sequence[str], function: str | None) -> tuple[Any, Mapping[str, object]]:
    """Load, read the inputs as the model declares them, and run; the model and its outputs."""
    from coreml_runtime import InputError, ModelError, PredictionError, UnsupportedError, load
    from coreml_runtime.files import pairs, read_inputs
    from coreml_runtime.shown import labelled

    try:
        files = pairs(arguments)
    except InputError as error:
        raise ConfigurationError(str(error), code="B0228", hint=error.hint) from error
    try:
        model = load(path, function)
    except (ModelError, UnsupportedError, OSError) as error:
        raise SourceError(f"{path} cannot be loaded: {error}", code="B0302") from error
    except InputError as error:
        raise ConfigurationError(str(error), code="B0226") from error
    try:
        inputs = read_inputs(model, files, lambda name: open_regular(Path(name)))
        outputs = model.predict(inputs, state=model.make_state() if model.states else None)
    except InputError as error:
        raise ConfigurationError(str(error), code="B0228", hint=error.hint) from error
    except ModelError as error:  # compressed weights are made dense by the first prediction
        raise SourceError(f"{path} is damaged: {error}", code="B0302") from error
    except PredictionError as error:
        raise ConversionError(f"the prediction failed: {error}", code="B0415") from error
    return model, labelled(model, outputs)


def _folder(given: str | None) -> Path | None:
    if given is None:
        return None
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output {folder} cannot be made: {error.strerror}", code="B0227") from error
    return folder
