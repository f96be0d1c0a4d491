"""After `install`, the tools of coremltools that predict find what they look for: debuggers, benchmarker, utilities."""

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # coremltools warns about versions while it is imported
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813 - the name that coremltools documents
    from coremltools.models.ml_program.experimental import debugging_utils, perf_utils
    from coremltools.models.ml_program.experimental.torch import debugging_utils as torch_debugging_utils

import coreml_runtime

# coremltools warns about numpy, about its own deprecated calls and about files that it leaves open.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("installed")]
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 0.5]], dtype=np.float32)


@pytest.fixture
def installed() -> Iterator[None]:
    coreml_runtime.install()
    yield
    coreml_runtime.uninstall()


def convert(build: Any, shape: tuple[int, ...] = (2, 3), **options: Any) -> Any:
    """The program that `build` writes, as a model with the input `x`, in fp32 unless told otherwise."""
    program = mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target.iOS17)(build)
    settings = {"minimum_deployment_target": ct.target.iOS17, "compute_precision": ct.precision.FLOAT32} | options
    return ct.convert(program, source="milinternal", convert_to="mlprogram", **settings)


def overflowing(x: Any) -> Any:
    """Three operators, of which the second leaves the range of half precision."""
    hidden = mb.add(x=x, y=np.float32(100), name="sound")
    hidden = mb.mul(x=hidden, y=np.float32(1000), name="overflow")
    return mb.relu(x=hidden, name="y")


def times(factor: float) -> Any:
    return lambda x: mb.mul(x=x, y=np.float32(factor), name="y")


def names(operations: Any) -> list[str]:
    return [operation.outputs[0].name for operation in operations]


def test_the_validator_names_the_operator_that_overflows() -> None:
    model = convert(overflowing, compute_precision=ct.precision.FLOAT16)
    validator = debugging_utils.MLModelValidator(model)
    failing = asyncio.run(validator.find_failing_ops_with_infinite_output({"x": X}))
    assert [name.removesuffix("_cast_fp16") for name in names(failing)] == ["overflow"]


def test_the_comparator_names_the_operator_that_differs() -> None:
    target = convert(lambda x: mb.tanh(x=mb.add(x=mb.mul(x=x, y=np.float32(2), name="a"), y=np.float32(1.5), name="b")))
    reference = convert(
        lambda x: mb.tanh(x=mb.add(x=mb.mul(x=x, y=np.float32(2), name="a"), y=np.float32(1), name="b"))
    )
    comparator = debugging_utils.MLModelComparator(reference, target)
    failing = asyncio.run(comparator.find_failing_ops({"x": X}, lambda _, one, two: np.allclose(one, two)))
    assert names(failing) == ["b"]


def test_the_torch_comparator_names_the_module_that_differs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    comparator = torch_debugging_utils.TorchScriptMLModelComparator(
        Two().eval(),
        example_inputs=(torch.from_numpy(X),),
        inputs=[ct.TensorType(name="x", shape=X.shape)],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
    )
    seen: list[str] = []

    def compare(module: Any, reference: Any, target: Any) -> bool:
        seen.append(module.key.name if hasattr(module, "key") else str(module))
        np.testing.assert_allclose(reference, target, rtol=1e-5, atol=1e-6)
        return len(seen) > 1

    failing = asyncio.run(comparator.find_failing_modules((torch.from_numpy(X),), compare))
    assert len(seen) >= 2
    assert failing


def test_the_benchmarker_has_times() -> None:
    benchmarker = perf_utils.MLModelBenchmarker(convert(overflowing))
    load = asyncio.run(benchmarker.benchmark_load(iterations=2))
    predict = asyncio.run(benchmarker.benchmark_predict(iterations=3, warmup=True))
    assert len(load.samples) == 2
    assert len(predict.samples) == 3
    assert all(sample > 0 for sample in load.samples + predict.samples)


def test_each_function_of_a_package_predicts(tmp_path: Path) -> None:
    # given
    functions = ct.utils.MultiFunctionDescriptor()
    for factor in (2, 3):
        path = str(tmp_path / f"times_{factor}.mlpackage")
        convert(times(factor)).save(path)
        functions.add_function(path, src_function_name="main", target_function_name=f"times_{factor}")
    functions.default_function_name = "times_2"
    package = str(tmp_path / "both.mlpackage")

    # when
    ct.utils.save_multifunction(functions, package)

    # then
    np.testing.assert_allclose(ct.models.MLModel(package).predict({"x": X})["y"], 2 * X)
    np.testing.assert_allclose(ct.models.MLModel(package, function_name="times_3").predict({"x": X})["y"], 3 * X)


def test_images_go_in_and_come_out_as_pil() -> None:
    # given
    class Negative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 255 - x

    shape = (1, 3, 2, 4)
    model = ct.convert(
        torch.jit.trace(Negative(), torch.zeros(shape)),
        inputs=[ct.ImageType(name="x", shape=shape)],
        outputs=[ct.ImageType(name="negative")],
        minimum_deployment_target=ct.target.iOS17,
    )
    picture = np.random.default_rng(0).integers(0, 256, (2, 4, 3), dtype=np.uint8)

    # when
    negative = model.predict({"x": Image.fromarray(picture)})["negative"]

    # then
    np.testing.assert_array_equal(np.asarray(negative.convert("RGB")), 255 - picture)


def test_models_of_ios26_predict() -> None:
    program = mb.program(input_specs=[mb.TensorSpec(shape=(2, 3))], opset_version=ct.target.iOS26)(
        lambda x: mb.relu(x=x, name="y")
    )
    model = ct.convert(program, source="milinternal", minimum_deployment_target=ct.target.iOS26)
    np.testing.assert_allclose(model.predict({"x": X})["y"], np.maximum(X, 0))


def test_two_models_are_compared_by_predicting(tmp_path: Path) -> None:
    """`compress` and compare, as the guide of coremltools.optimize does."""
    model = convert(lambda x: mb.linear(x=x, weight=np.arange(48, dtype=np.float32).reshape(16, 3), name="y"))
    config = ct.optimize.coreml.OptimizationConfig(
        global_config=ct.optimize.coreml.OpLinearQuantizerConfig(weight_threshold=0)
    )
    small = ct.optimize.coreml.linear_quantize_weights(model, config)
    whole, quantised = (each.predict({"x": X})["y"] for each in (model, small))
    assert 0 < np.abs(whole - quantised).max() < 1
