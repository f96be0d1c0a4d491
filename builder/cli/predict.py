"""`python -m builder predict MODEL input=file …`: runs an artifact on pictures and arrays, on any machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.cli.arguments import Parser, model_file
from builder.cli.coreai_inputs import color_layout, read_picture, require_sane, with_labels
from builder.errors import ConfigurationError, ConversionError, SourceError
from builder.util.reading import open_regular
from builder.util.suggest import did_you_mean
from builder.util.text import visible
from coreml_runtime.coreai.asset import is_asset

if TYPE_CHECKING:
    from coreml_runtime import Model

DESCRIPTION = """Run a .mlpackage or .mlmodel on files with builder's own runtime, and print what it says.

Pictures are resized to the input's size; arrays come from .npy files, numbers as they are.

  python -m builder predict outputs/mobilenet_v2_fp16/default/mobilenet_v2_fp16.mlpackage image=cat.jpg
"""

_MOST_OF_INPUT = 1 << 30
"""Bytes of an array that is given (1 GiB)."""
MOST_PRINTED = 8
"""Arrays with more elements are summed up instead of printed."""


def run(arguments: Sequence[str]) -> int:
    """Predict and print; returns the exit code."""
    parser = Parser("predict", DESCRIPTION, usage="predict MODEL name=FILE … [--output FOLDER] [--top N]")
    parser.add_argument("model", help="a .mlpackage, .mlmodel or .aimodel")
    parser.add_argument("inputs", nargs="*", metavar="name=FILE", help="a value for each input of the model")
    parser.add_argument("--output", metavar="FOLDER", help="write output arrays (.npy) and images (.png) there")
    parser.add_argument("--function", metavar="NAME", help="which function of a package that holds several")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to print (default: 5)")
    given = parser.read(arguments)
    path = model_file(given.model)
    files = _pairs(given.inputs)
    outputs = _predict(path, files, given.function)
    folder = _folder(given.output)
    labels = None
    if is_asset(path):
        outputs = with_labels(path, outputs)
    else:
        labels = detector_labels(path)
    for name, value in outputs.items():
        described = _objects(value, outputs["coordinates"], labels) if labels and name == "confidence" else ""
        described = described or _described(value, given.top)
        print(visible(f"{name}:{described}" if described.startswith("\n") else f"{name}: {described}"))
        if folder is not None:
            _save(folder, name, value)
    return 0


def _predict(path: Path, files: Mapping[str, str], function: str | None) -> dict[str, Any]:
    """Load, read the inputs as the model declares them, and run."""
    from coreml_runtime import InputError, ModelError, PredictionError, UnsupportedError, load

    try:
        model = load(path, function)
    except (ModelError, UnsupportedError, OSError) as error:
        raise SourceError(f"{path} cannot be loaded: {error}", code="B0302") from error
    except InputError as error:
        raise ConfigurationError(str(error), code="B0226") from error
    inputs = read_inputs(model, files)
    try:
        return model.predict(inputs, state=model.make_state() if model.states else None)
    except InputError as error:
        raise ConfigurationError(str(error), code="B0228") from error
    except ModelError as error:  # compressed weights are made dense by the first prediction
        raise SourceError(f"{path} is damaged: {error}", code="B0302") from error
    except PredictionError as error:
        raise ConversionError(f"the prediction failed: {error}", code="B0415") from error


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name or not value:
            raise ConfigurationError(
                f"{argument} is not `name=FILE`", code="B0228", hint="name an input: `image=cat.jpg`"
            )
        if name in pairs:
            raise ConfigurationError(f"input {name} is given twice", code="B0228")
        pairs[name] = value
    return pairs


def read_inputs(model: Model, files: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of each input that is given; raises ConfigurationError naming what is wrong."""
    unknown = [name for name in files if name not in model.inputs]
    if unknown:
        hint = did_you_mean(unknown[0], model.inputs) or f"inputs: {', '.join(model.inputs)}"
        raise ConfigurationError(f"the model has no input {unknown[0]}", code="B0228", hint=hint)
    missing = [name for name, feature in model.inputs.items() if name not in files and not _is_optional(feature)]
    if missing:
        wanted = " ".join(f"{name}=FILE" for name in missing)
        raise ConfigurationError(f"no value for {', '.join(missing)}", code="B0228", hint=f"add {wanted}")
    return {
        name: _read(model.inputs[name], name, text)
        if text.endswith(".npy") or (layout := color_layout(model, name)) is None
        else read_picture(model.inputs[name], layout, name, text)
        for name, text in files.items()
    }


def _is_optional(feature: Any) -> bool:
    return bool(getattr(feature, "optional", False))


def _read(feature: Any, name: str, text: str) -> Any:
    """Return one input from its file, as the model declares it."""
    import numpy as np

    from coreml_runtime.features import ArrayFeature, ImageFeature

    if isinstance(feature, ImageFeature):
        return _picture(feature, name, text)
    if isinstance(feature, ArrayFeature):
        try:
            if text.endswith(".npy"):
                with open_regular(Path(text)) as stream:
                    if (size := os.fstat(stream.fileno()).st_size) > _MOST_OF_INPUT:
                        raise ValueError(f"it has {size} bytes, of which {_MOST_OF_INPUT} may be")
                    return np.load(stream, allow_pickle=False)
            require_sane(feature.shape)
            return np.full(feature.shape, float(text), dtype=np.float32)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise ConfigurationError(
                f"input {name}: {text} is neither a readable .npy file nor a number: {error}", code="B0228"
            ) from error
    try:
        return float(text) if feature.kind == "double" else int(text) if feature.kind == "int64" else text
    except ValueError as error:
        raise ConfigurationError(f"input {name}: {text} is not a number", code="B0228") from error


def _picture(feature: Any, name: str, text: str) -> Any:
    """Return a picture in the input's colours and size: (width, height) of the model."""
    import numpy as np
    from PIL import Image

    try:
        require_sane((feature.width, feature.height))
        with open_regular(Path(text)) as stream, Image.open(stream) as opened:
            picture = opened.convert("RGB" if feature.color in ("RGB", "BGR") else "L")
    except Exception as error:  # decoders raise types of their own on damaged files
        raise ConfigurationError(f"input {name}: {text} cannot be read as a picture: {error}", code="B0228") from error
    if (feature.width, feature.height) != picture.size and not feature.enumerated and feature.width_range is None:
        picture = picture.resize((feature.width, feature.height), Image.Resampling.BILINEAR)
    if feature.color == "GRAYSCALE_FLOAT16":
        return Image.fromarray(np.asarray(picture, dtype=np.float32))
    return picture


def _described(value: Any, top: int) -> str:
    """Return an output in a line, or the best classes in several."""
    if isinstance(value, Mapping) and value:
        best = sorted(value.items(), key=lambda item: -float(item[1]))[: max(1, top)]
        width = max(len(str(label)) for label, _ in best)
        return "\n" + "\n".join(f"  {label!s:<{width}}  {float(share):.4f}" for label, share in best)
    if hasattr(value, "size") and hasattr(value, "getpixel"):
        return f"a picture of {value.size[0]} x {value.size[1]}"
    if hasattr(value, "shape"):
        if value.size <= MOST_PRINTED:  # an empty array has no range
            return str(value.tolist())
        return f"{value.dtype} {tuple(value.shape)}, {value.min():.6g} to {value.max():.6g}, mean {value.mean():.6g}"
    return str(value)


def detector_labels(path: Path) -> tuple[str, ...] | None:
    """The classes of a model that ends with non-maximum suppression; None for others."""
    from coreml_runtime.labels import labels_of, suppression_of
    from coreml_runtime.package import open_package

    specification = open_package(path).specification
    return labels_of(specification) if suppression_of(specification) is not None else None


def _objects(confidence: Any, coordinates: Any, labels: Sequence[str]) -> str:
    """Every box in a line: its class, its confidence, and where it is."""
    lines = [
        f"  {labels[int(row.argmax())]}  {row.max():.4f}  at {x:.3f}, {y:.3f}, {width:.3f} × {height:.3f}"
        for row, (x, y, width, height) in zip(confidence, coordinates, strict=True)
    ]
    return "\n" + "\n".join(lines) if lines else "no objects"


def _folder(given: str | None) -> Path | None:
    if given is None:
        return None
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output {folder} cannot be made: {error.strerror}", code="B0227") from error
    return folder


def _save(folder: Path, name: str, value: Any) -> None:
    import json

    import numpy as np

    name = re.sub(r"[^\w.-]", "_", name)  # a name is the model's, and must not lead out of the folder
    if isinstance(value, Mapping):
        shares = {str(label): float(share) for label, share in value.items()}
        (folder / f"{name}.json").write_text(json.dumps(shares, indent=1), encoding="utf-8")
    elif hasattr(value, "getpixel"):
        value.save(folder / f"{name}.png")
    elif hasattr(value, "shape"):
        np.save(folder / f"{name}.npy", value)
