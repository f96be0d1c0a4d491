"""How the card says that a model is called from Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.artifacts.record import BuildRecord

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_MODES = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}


def python_usage(record: BuildRecord) -> str:
    """A prediction by builder's runtime, on any machine; where coremltools can, by Core ML on a Mac."""
    return "\n".join(_lines(record))


def _lines(record: BuildRecord) -> Iterator[str]:
    pictures = any(given["kind"] == "image" for given in record.inputs)
    arrays = any(given["kind"] == "tensor" for given in record.inputs)
    file, stateful = record.artifact.path.name, bool(record.spec.state)
    function = next(iter(record.functions), "")
    if arrays:
        yield "import numpy as np"
    if pictures:
        yield "from PIL import Image"
    yield "from coreml_runtime import load  # the same model on a Mac: coremltools.models.MLModel"
    yield ""
    given = f", {function!r}" if function else ""
    yield f"model = load({file!r}{given})"
    if stateful:
        yield "state = model.make_state()"
    yield "outputs = model.predict("
    yield "    {"
    for feature in record.inputs:
        if (value := _value(feature)) and not feature.get("optional"):
            yield f"        {feature['name']!r}: {value},"
    yield "    }" + (", state=state" if stateful else "")
    yield ")"
    yield "print(outputs)"


def _value(feature: JsonObject) -> str:
    if feature["kind"] == "image":
        mode = _MODES.get(str(feature["color_layout"]), "RGB")
        return f"Image.new({mode!r}, ({feature['width']}, {feature['height']}))"
    if feature["kind"] == "tensor":
        return f"np.zeros({tuple(feature['shape'])}, np.{feature['dtype']})"
    return {"double": "0.5", "int64": "1", "string": "'text'"}.get(feature["kind"], "")
