"""Apple's test suites that run on the runtime, and what to expect of each."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A module or folder of tests in the coremltools wheel; `goal` is the share of passes among tests that predict."""

    name: str
    title: str
    modules: tuple[str, ...]
    goal: float


SUITES = (
    Suite(
        name="operators",
        title="MIL operators",
        modules=("coremltools.converters.mil.mil.ops.tests",),
        goal=1.0,
    ),
    Suite(
        name="torch",
        title="torch operators, converted",
        modules=("coremltools.converters.mil.frontend.torch.test.test_torch_ops",),
        goal=0.995,
    ),
    Suite(
        name="layers",
        title="NeuralNetwork layers, written by hand",
        modules=("coremltools.test.neural_network.test_numpy_nn_layers",),
        goal=0.95,
    ),
    Suite(
        name="models",
        title="models, pipelines and quantised networks",
        modules=(
            "coremltools.test.neural_network.test_model",
            "coremltools.test.neural_network.test_nn_builder",
            "coremltools.test.neural_network.test_simple_nn_inference",
            "coremltools.test.neural_network.test_quantization",
            "coremltools.test.pipeline.test_pipeline",
        ),
        goal=1.0,
    ),
)
