"""ONNX's own backend tests as files with inputs: those of the wheel, and inputs beyond them that noise never hits."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "real")
Values = Mapping[str, np.ndarray]

_FLOATS = np.array([0, 1, -1, 1e-3, -1e-3, 0.5, -2.5, 12, -12, 30, -30, 88, -88, 300, -300])
_MASKED = np.array([1, -np.inf, 2, 0.5, np.inf, -3])
_INTEGERS = np.array([0, 1, -1, 2049, -2049, 32769, -40000, 65537, 2**24 + 1, -(2**24) - 1])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A test of the wheel: its model, and the input that comes with it, by the names of the graph's inputs."""

    name: str
    model: Any
    given: Values


def cases() -> Iterator[Case]:
    """All tests, by name within their kind; a test without arrays (sequences, text) has what it has."""
    import onnx
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [test for kind in KINDS for test in load_model_tests(kind=kind)]
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for test in sorted(found, key=lambda test: (KINDS.index(test.kind), test.name)):
        if test.model is not None:
            yield _case(test.name, test.model, test.data_sets[0][0] if test.data_sets else [])
        elif test.url:
            model = onnx.load(str(data / "light" / Path(test.url).name))
            yield _case(test.name, model, [_ramp(value) for value in _required(model)])
        else:
            folder = Path(test.model_dir or "")
            model = onnx.load(str(folder / "model.onnx"))
            files = sorted((folder / "test_data_set_0").glob("input_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
            yield _case(test.name, model, [_array(file) for file in files])


def stressed(given: Values, *, moves: bool) -> Iterator[tuple[str, Values]]:
    """Other inputs of the same shapes, by a word for them: zeros, larger, values over decades, integers.

    Infinities too, as masks have them, where the operators only move values (`moves`).
    """
    floats = [name for name, array in given.items() if np.issubdtype(array.dtype, np.floating) and array.size]
    integers = [name for name, array in given.items() if np.issubdtype(array.dtype, np.integer) and array.size]
    for word, make in {
        "zeros": np.zeros_like,
        "a hundredfold": lambda array: array * 100,
        "decades": lambda array: np.resize(_FLOATS, array.shape).astype(array.dtype),
    }.items():
        if floats:
            yield word, {**given, **{name: make(given[name]) for name in floats}}
    if floats and moves:
        yield "infinities", {**given, **{name: _infinite(given[name]) for name in floats}}
    for name in integers:
        limits = np.iinfo(given[name].dtype)
        values = _INTEGERS[(limits.min <= _INTEGERS) & (limits.max >= _INTEGERS)]
        yield f"large {name}", {**given, name: np.resize(values, given[name].shape).astype(given[name].dtype)}


def _infinite(array: np.ndarray) -> np.ndarray:
    return np.resize(_MASKED, array.shape).astype(array.dtype)


def _case(name: str, model: Any, arrays: list[Any]) -> Case:
    names = [value.name for value in model.graph.input]
    required = [value.name for value in _required(model)]
    names = names if len(arrays) == len(names) else required
    given = {own: _plain(x) for own, x in zip(names, arrays, strict=False) if not isinstance(x, list | dict | None)}
    return Case(name=name, model=model, given=given)


def _plain(array: Any) -> np.ndarray:
    """A numpy array; the tests of small dtypes come with tensors of ONNX."""
    import onnx

    if isinstance(array, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(array)
    return np.asarray(array)


def _required(model: Any) -> list[Any]:
    defaults = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in defaults]


def _ramp(value: Any) -> np.ndarray:
    """As ONNX's own runner fills the inputs of the light models: a ramp from 0 to below 1."""
    shape = [dimension.dim_value or 1 for dimension in value.type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def _array(file: Path) -> np.ndarray:
    import onnx

    tensor = onnx.TensorProto()
    tensor.ParseFromString(file.read_bytes())
    return np.asarray(onnx.numpy_helper.to_array(tensor))
