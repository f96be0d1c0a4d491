"""MLflow's python function of an artifact: `loader_module` of the models that builder logs. Nothing is unpickled.

A model takes one of two forms of input, which `coreml_runtime.signature` declares to MLflow:

- arrays only: a dictionary of arrays by name, whose first axis counts predictions. An input that the model declares as
  (1, …) has that axis already; to any other one it is added;
- anything else (pictures, numbers, texts): a table with a row for each prediction and a column for each input. A
  picture is the content of a PNG or JPEG file (base64 in JSON), a PIL image or an array of levels (H, W, 3) or (H, W).

Outputs that are all arrays come as a dictionary of arrays, anything else as a table with a column for each output. Of a
model that is loaded with `model_config={"output": NAME}` that one comes alone, as `mlflow.models.evaluate` wants it.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coreml_runtime.errors import InputError, PredictionError, RuntimeFailure
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature
from coreml_runtime.model import Model, load
from coreml_runtime.pictures import color_layout, decoded_bytes, fitted
from coreml_runtime.shown import labelled

TOP_K = "top_k"
"""The parameter of a request that says how many classes a classifier returns."""
CONFIG: Mapping[str, str | None] = {"function": None, "precision": "half", "output": None}
"""What `mlflow.pyfunc.load_model(…, model_config=…)` may set; MLflow takes no key that a model does not declare."""
_SUFFIXES = (".mlpackage", ".mlmodel", ".aimodel")


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Predictor:
    """What MLflow calls: `path` is the artifact, or a folder with one.

    `model_config` may have `function` and `precision`, as `coreml_runtime.load` takes them, and `output`, the name of
    the one output that predictions return. Raises InputError for another name.
    """
    config = {**CONFIG, **(model_config or {})}
    output = config.pop("output", None)
    found = Path(path)
    if found.suffix not in _SUFFIXES:
        (found,) = (entry for entry in sorted(found.iterdir()) if entry.suffix in _SUFFIXES)
    return Predictor(load(found, **config), output)


class Predictor:
    """A model behind MLflow's `predict(model_input, params)`."""

    def __init__(self, model: Model, output: str | None = None) -> None:
        if output is not None and output not in model.outputs:
            raise InputError(f"the model has no output {output!r}; it has {', '.join(model.outputs)}")
        self.model, self.output = model, output
        self.layouts = {name: color_layout(model, name) for name in model.inputs}

    def predict(self, model_input: object, params: Mapping[str, object] | None = None) -> Any:
        """Outputs of each prediction; each begins with fresh states.

        What is wrong with an input is an MlflowException of the kind that a server answers with 400.
        """
        try:
            top_k = _top_k(params)
            results = [self._run(row, top_k) for row in self._rows(model_input)]
        except RuntimeFailure as error:
            raise _for_mlflow(error) from error
        return _gathered(results) if self.output is None else _column(results, self.output)

    def _run(self, row: Mapping[str, object], top_k: int | None) -> dict[str, Any]:
        model = self.model
        outputs = labelled(model, model.predict(row, state=model.make_state() if model.states else None))
        return {name: _plain(value, top_k) for name, value in outputs.items()}

    def _rows(self, given: object) -> Iterator[dict[str, object]]:
        """The inputs of each prediction."""
        if takes_arrays(self.model):
            yield from _rows_of_arrays(self.model.inputs, given)  # type: ignore[arg-type] # arrays, as was asked
            return
        if not hasattr(given, "to_dict"):
            raise InputError(f"a table with the columns {', '.join(self.model.inputs)} is expected")
        for row in given.to_dict("records"):
            yield {
                name: _value(feature, self.layouts[name], row[name])
                for name, feature in self.model.inputs.items()
                if name in row and not (row[name] is None and getattr(feature, "optional", False))
            }


def _for_mlflow(error: RuntimeFailure) -> Exception:
    """A failure as MLflow's server understands it: 400 for what a request made of the model, else 500."""
    from mlflow.exceptions import MlflowException

    raised: Exception
    if isinstance(error, InputError):
        raised = MlflowException.invalid_parameter_value(str(error))
    elif isinstance(error, PredictionError):  # such as an index past a table's end
        raised = MlflowException.invalid_parameter_value(f"the prediction failed: {error}")
    else:
        raised = MlflowException(f"the model is unfit: {error}")
    return raised


def takes_arrays(model: Model) -> bool:
    """Whether every input is an array that does not stand for a picture."""
    return all(
        isinstance(feature, ArrayFeature) and color_layout(model, name) is None
        for name, feature in model.inputs.items()
    )


def has_batch_axis(feature: ArrayFeature) -> bool:
    """Whether the first axis of an array counts predictions: it has one entry, and others follow."""
    return len(feature.shape) > 1 and feature.shape[0] == 1


def _top_k(params: Mapping[str, object] | None) -> int | None:
    value = (params or {}).get(TOP_K)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{TOP_K} is a number of classes from 1 on, got {value!r}")
    return int(value)


def _rows_of_arrays(features: Mapping[str, ArrayFeature], given: Any) -> Iterator[dict[str, object]]:
    if not isinstance(given, Mapping):
        if hasattr(given, "to_dict"):
            given = {name: np.stack([np.asarray(cell) for cell in given[name]]) for name in given.columns}
        elif len(features) == 1:
            given = {next(iter(features)): given}
        else:
            raise InputError(f"arrays by name are expected: {', '.join(features)}")
    arrays = {name: np.asarray(value) for name, value in given.items()}
    counts = {name: len(value) for name, value in arrays.items() if name in features and value.ndim}
    if len(set(counts.values())) > 1:
        raise InputError(f"the first axis of every input counts predictions, and they differ: {counts}")
    if counts and not any(counts.values()):
        raise InputError("the inputs hold no prediction: their first axis has no entry")
    for number in range(next(iter(counts.values()), 1)):
        yield {
            name: value[number : number + 1] if name in features and has_batch_axis(features[name]) else value[number]
            for name, value in arrays.items()
            if value.ndim
        } | {name: value for name, value in arrays.items() if not value.ndim}


def _value(feature: Feature, layout: str | None, value: object) -> Any:
    """One cell of a table as the model's input."""
    if not isinstance(feature, ImageFeature) and layout is None:
        return value
    if isinstance(value, (str, bytes, bytearray)):
        return decoded_bytes(feature, layout, _content(value))
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        from PIL import Image

        value = Image.fromarray(value)
    if not (hasattr(value, "mode") and hasattr(value, "convert")):
        raise InputError(
            f"input {feature.name}: the content of a PNG or JPEG file is expected (base64 in JSON), a PIL image or an "
            f"array of uint8, got {type(value).__name__}"
        )
    return fitted(feature, layout, value)


def _content(value: str | bytes | bytearray) -> bytes:
    """The content of a picture file: MLflow leaves base64 as it is under `inputs` and `instances`.

    No picture file is base64 itself: it has bytes that are not among its 64 characters.
    """
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else bytes(value)
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error:
        return raw


def _plain(value: Any, top_k: int | None) -> Any:
    """An output as MLflow carries it: the best classes of a dictionary, the PNG of a picture."""
    if isinstance(value, Mapping):
        best = sorted(value.items(), key=lambda item: -float(item[1]))[:top_k]
        return {str(label): float(share) for label, share in best}
    if hasattr(value, "getpixel"):
        stream = io.BytesIO()
        value.save(stream, "TIFF" if value.mode == "F" else "PNG")
        return stream.getvalue()
    return value


def _gathered(results: Sequence[Mapping[str, Any]]) -> Any:
    """One answer for all predictions."""
    if results and all(isinstance(value, np.ndarray) for value in results[0].values()):
        return {name: _joined([result[name] for result in results]) for name in results[0]}
    from pandas import DataFrame

    rows = [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in result.items()}
        for result in results
    ]
    return DataFrame(rows)


def _column(results: Sequence[Mapping[str, Any]], output: str) -> Any:
    """One output of all predictions."""
    values = [result[output] for result in results]
    if values and all(isinstance(value, np.ndarray) for value in values):
        return _joined(values)
    from pandas import Series

    return Series(values, name=output)


def _joined(values: Sequence[np.ndarray]) -> Any:
    """Arrays along a first axis that counts predictions; a list where their shapes differ, as those of boxes do."""
    if len({value.shape for value in values}) > 1:
        return list(values)
    return np.concatenate(values) if values[0].ndim > 1 and len(values[0]) == 1 else np.stack(values)
