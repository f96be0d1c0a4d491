"""`install` makes coremltools predict: before and after its import, states, functions, inspectors, calibration."""

import asyncio
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # coremltools warns about versions while it is imported
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - the name that coremltools documents

import coreml_runtime
from coreml_runtime.patching import Proxy

# coremltools warns about numpy, about its own deprecated calls and about files that it leaves open.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def installed() -> Iterator[None]:
    coreml_runtime.install()
    yield
    coreml_runtime.uninstall()


def convert(**options: Any) -> Any:
    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 3))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        weight = np.arange(12, dtype=np.float32).reshape(4, 3)
        return mb.relu(x=mb.linear(x=x, weight=weight, name="hidden"), name="y")

    settings = {"minimum_deployment_target": ct.target.iOS17, "compute_precision": ct.precision.FLOAT32} | options
    return ct.convert(program, source="milinternal", convert_to="mlprogram", **settings)


X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 0.5]], dtype=np.float32)
EXPECTED = np.maximum(X @ np.arange(12, dtype=np.float32).reshape(4, 3).T, 0)


@pytest.mark.usefixtures("installed")
def test_converted_models_predict_dicts_and_lists() -> None:
    model = convert()
    np.testing.assert_allclose(model.predict({"x": X})["y"], EXPECTED)
    first, second = model.predict([{"x": X}, {"x": 2 * X}])
    np.testing.assert_allclose(second["y"], 2 * EXPECTED)
    np.testing.assert_allclose(first["y"], EXPECTED)


@pytest.mark.usefixtures("installed")
def test_paths_specifications_and_compute_units(tmp_path: Path) -> None:
    model = convert()
    model.save(str(tmp_path / "m.mlpackage"))
    cls = ct.models.MLModel
    loaded = cls(str(tmp_path / "m.mlpackage"), compute_units=ct.ComputeUnit.CPU_AND_NE)
    np.testing.assert_allclose(loaded.predict({"x": X})["y"], EXPECTED)
    again = cls(model.get_spec(), weights_dir=model.weights_dir)
    np.testing.assert_allclose(again.predict({"x": X})["y"], EXPECTED)
    assert loaded.load_duration_in_nano_seconds > 0
    assert loaded.last_predict_duration_in_nano_seconds > 0


@pytest.mark.usefixtures("installed")
def test_models_loaded_with_skip_model_load_do_not_predict() -> None:
    with pytest.raises(Exception, match=r"Unable to load CoreML.framework"):
        convert(skip_model_load=True).predict({"x": X})


@pytest.mark.usefixtures("installed")
def test_failures_are_those_that_coremltools_documents() -> None:
    model = convert()
    with pytest.raises(RuntimeError, match=r"the shape is \(3, 2\), the model expects \(2, 3\)"):
        model.predict({"x": X.T})
    with pytest.raises(KeyError, match="does not match any of the model input"):
        model.predict({"z": X})


def test_install_twice_uninstall_and_earlier_models(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a model made before the runtime is installed
    model, cls, original = convert(), ct.models.MLModel, ct.models.MLModel.predict
    with pytest.raises(Exception, match="only supported on macOS"):
        model.predict({"x": X})
    # when it is installed, twice, and coremltools is told that this is a Mac
    coreml_runtime.install()
    coreml_runtime.install("fast")
    monkeypatch.setattr("coremltools.models.model._is_macos", lambda: True)
    # then the same class and the earlier model predict
    assert ct.models.MLModel is cls
    np.testing.assert_allclose(model.predict({"x": X})["y"], EXPECTED)
    # and all is put back
    coreml_runtime.uninstall()
    assert ct.models.MLModel.predict is original
    assert ct.models.model._MLModelProxy is not Proxy


def test_install_before_coremltools_is_imported() -> None:
    script = textwrap.dedent("""
        import sys, coreml_runtime
        coreml_runtime.install()
        assert "coremltools" not in sys.modules
        import coremltools
        from coreml_runtime.patching import Proxy
        assert coremltools.models.model._MLModelProxy is Proxy
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("installed")
def test_states_are_kept_between_predictions() -> None:
    @mb.program(
        input_specs=[mb.TensorSpec(shape=(2,), dtype=ct.converters.mil.mil.types.fp16),
                     mb.StateTensorSpec(shape=(2,), dtype=ct.converters.mil.mil.types.fp16)],
        opset_version=ct.target.iOS18,
    )  # fmt: skip
    def program(x: Any, total: Any) -> Any:
        return mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x), name="y")

    model = ct.convert(
        program, source="milinternal", convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18,
        states=None,
    )  # fmt: skip
    state = model.make_state()
    for turn in (1.0, 2.0):
        result = model.predict({"x": np.array([1.0, 2.0], dtype=np.float32)}, state=state)
        np.testing.assert_allclose(result["y"], [turn, 2 * turn])
    np.testing.assert_allclose(state.read_state("total"), [2.0, 4.0])
    state.write_state("total", np.zeros(2, dtype=np.float32))
    np.testing.assert_allclose(state.read_state("total"), [0.0, 0.0])
    with pytest.raises(RuntimeError, match="no state 'none'"):
        state.read_state("none")


@pytest.mark.usefixtures("installed")
def test_the_inspector_returns_values_not_none() -> None:
    from coremltools.models.ml_program.experimental.debugging_utils import MLModelInspector

    inspector = MLModelInspector(convert())
    outputs = asyncio.run(inspector.retrieve_outputs(inputs={"x": X}, output_names=["hidden"]))
    np.testing.assert_allclose(outputs["hidden"], X @ np.arange(12, dtype=np.float32).reshape(4, 3).T)


@pytest.mark.usefixtures("installed")
def test_activations_are_quantised_from_calibration_data() -> None:
    config = ct.optimize.coreml.OptimizationConfig(
        global_config=ct.optimize.coreml.experimental.OpActivationLinearQuantizerConfig(mode="linear_symmetric")
    )
    half = convert(compute_precision=ct.precision.FLOAT16)
    model = ct.optimize.coreml.linear_quantize_activations(half, config, [{"x": X}, {"x": 3 * X}])
    kinds = [operation.op_type for operation in model._mil_program.functions["main"].operations]
    assert "quantize" in kinds
    # eight bits of a range of 128: half a step of each of the quantised tensors that add up, on outputs up to 50
    np.testing.assert_allclose(model.predict({"x": X})["y"], EXPECTED, atol=1.5)


@pytest.mark.usefixtures("installed")
def test_bisecting_checks_its_chunks_by_predicting(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 64))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        rng = np.random.default_rng(0)
        for _ in range(3):
            x = mb.relu(x=mb.linear(x=x, weight=rng.standard_normal((64, 64)).astype(np.float32)))
        return x

    model = ct.convert(program, source="milinternal", convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16)
    ct.models.utils.bisect_model(model, str(tmp_path), merge_chunks_to_pipeline=True)
    halves = ct.models.MLModel(str(tmp_path / "chunked_pipeline.mlpackage"))
    x = np.ones((1, 64), dtype=np.float32)
    (name,) = model.output_description
    # the cut adds two casts to half around values that are half already
    np.testing.assert_allclose(halves.predict({"x": x})[name], model.predict({"x": x})[name], rtol=1e-3)
