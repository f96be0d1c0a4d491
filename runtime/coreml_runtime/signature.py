"""What MLflow is to know of a model: its signature, an example of its inputs, and the packages that it needs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_runtime import __version__
from coreml_runtime.features import ArrayFeature, DictionaryFeature, Feature, ImageFeature, ScalarFeature
from coreml_runtime.model import Model
from coreml_runtime.pictures import color_layout, own_metadata
from coreml_runtime.pyfunc import CONFIG, TOP_K, has_batch_axis, takes_arrays
from coreml_runtime.values import numpy_dtype

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, TensorSpec

_PACKAGES = ("numpy", "pillow", "protobuf", "torch")
_DEFAULT_TOP_K = 5
_MOST_OF_EXAMPLE = 1 << 18
"""Numbers of an example, which MLflow writes as text."""


def requirements() -> list[str]:
    """What serves a model besides mlflow: this runtime and what it needs, in the versions installed here."""
    pinned = [f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES]
    return [f"coreml-runtime=={__version__}", *pinned]


def signature(model: Model) -> ModelSignature:
    """The `ModelSignature` of `coreml_runtime.pyfunc` for this model, with `top_k` for a classifier."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema

    inputs = Schema([_input(model, name, feature) for name, feature in model.inputs.items()])
    is_classifier = _has_labels(model)
    params = ParamSchema([ParamSpec(TOP_K, "long", _DEFAULT_TOP_K)]) if is_classifier else None
    return ModelSignature(inputs=inputs, outputs=Schema(_outputs(model, is_classifier)), params=params)


def _has_labels(model: Model) -> bool:
    outputs = model.outputs.values()
    return any(isinstance(feature, DictionaryFeature) for feature in outputs) or _labels_of_asset(model) is not None


def _labels_of_asset(model: Model) -> list[object] | None:
    labels = own_metadata(model.specification).get("labels")
    return labels if isinstance(labels, list) and len(model.outputs) == 1 else None


def _input(model: Model, name: str, feature: Feature) -> TensorSpec | ColSpec:
    from mlflow.types import ColSpec, DataType, TensorSpec
    from mlflow.types.schema import AnyType

    if takes_arrays(model):
        return TensorSpec(numpy_dtype(feature), _shape(feature), name)  # type: ignore[arg-type] # an array
    required = not getattr(feature, "optional", False)
    if isinstance(feature, ImageFeature) or color_layout(model, name) is not None:
        return ColSpec(DataType.binary, name, required=required)
    if isinstance(feature, ScalarFeature):
        types = {"int64": DataType.long, "double": DataType.double, "string": DataType.string}
        return ColSpec(types[feature.kind], name, required=required)
    return ColSpec(AnyType(), name, required=required)  # an array beside a picture: checked by the model itself


def _outputs(model: Model, is_classifier: bool) -> list[object]:
    from mlflow.types import ColSpec, DataType, TensorSpec
    from mlflow.types.schema import AnyType, Map

    features = model.outputs
    if all(isinstance(feature, ArrayFeature) for feature in features.values()) and not is_classifier:
        return [TensorSpec(numpy_dtype(f), _shape(f), name) for name, f in features.items()]  # type: ignore[arg-type] # arrays
    found: list[object] = []
    for name, feature in features.items():
        kind: object = AnyType()
        if isinstance(feature, ScalarFeature):
            kind = {"int64": DataType.long, "double": DataType.double, "string": DataType.string}[feature.kind]
        elif isinstance(feature, ImageFeature):
            kind = DataType.binary
        elif isinstance(feature, DictionaryFeature) or _labels_of_asset(model) is not None:
            kind = Map(DataType.double)
        found.append(ColSpec(kind, name))
    return found


def _shape(feature: ArrayFeature) -> tuple[int, ...]:
    """The shape of many predictions; -1 stands for any size."""
    sizes = list(feature.shape)
    for axis, (low, high) in enumerate(feature.ranges):
        sizes[axis] = low if low == high else -1
    if feature.enumerated:
        sizes = [first if len(set(all_)) == 1 else -1 for first, *all_ in _columns(feature)]
    return (-1, *(sizes[1:] if has_batch_axis(feature) else sizes))


def _columns(feature: ArrayFeature) -> list[tuple[int, ...]]:
    """For each axis the size, and then all sizes that are allowed."""
    shapes = feature.enumerated
    return [(feature.shape[axis], *(shape[axis] for shape in shapes)) for axis in range(len(feature.shape))]


def example(model: Model, given: Mapping[str, object]) -> Any:
    """An input of one prediction: the values `given` by name (bytes of a PNG, arrays); grey and zeros for the others.

    None where it would be too large.
    """
    values = {name: _fitting(feature, given.get(name)) for name, feature in model.inputs.items()}
    if sum(value.size for value in values.values() if isinstance(value, np.ndarray)) > _MOST_OF_EXAMPLE:
        return None
    if takes_arrays(model):
        return {
            name: value if has_batch_axis(model.inputs[name]) else value[None]  # type: ignore[arg-type] # an array
            for name, value in values.items()
        }
    from pandas import DataFrame

    return DataFrame(
        [{name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}]
    )


def _fitting(feature: Feature, given: object) -> Any:
    """The value that is given where it is one of this input; else a neutral one."""
    if isinstance(feature, ImageFeature):
        return given if isinstance(given, bytes) else _png(feature.width, feature.height)
    if isinstance(feature, ArrayFeature):
        if isinstance(given, bytes):
            return given
        array = None if given is None else np.asarray(given)
        if array is None or not feature.allows(array.shape or (1,)):
            array = np.zeros(feature.shape)
        return array.astype(numpy_dtype(feature))
    if isinstance(feature, ScalarFeature):
        return {"int64": 0, "double": 0.0, "string": ""}[feature.kind] if given is None else given
    return {} if isinstance(feature, DictionaryFeature) else []


def _png(width: int, height: int) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (width, height), (128, 128, 128)).save(stream, "PNG")
    return stream.getvalue()


def save_model(
    model: Model, folder: Path, *, given: Mapping[str, object], mlflow_model: object, **more: object
) -> None:
    """Write an MLflow model of a loaded artifact into a new folder, for `mlflow.pyfunc.load_model` and `mlflow models`.

    `given` has values for the example, `mlflow_model` is the `mlflow.models.Model` to fill in, `more` goes to
    `mlflow.pyfunc.save_model`.
    """
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(
        path=str(folder),
        loader_module="coreml_runtime.pyfunc",
        data_path=str(model.path),
        mlflow_model=mlflow_model,
        signature=signature(model),
        input_example=example(model, given),
        pip_requirements=requirements(),
        model_config=dict(CONFIG),
        **more,
    )
