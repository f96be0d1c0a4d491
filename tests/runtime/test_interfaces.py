"""What a model declares: functions, flexible shapes, images and states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from PIL import Image

from coreml_runtime import InputError, State, load
from coreml_runtime.features import ArrayFeature, ImageFeature
from coreml_runtime.values import check_inputs
from tests.runtime.programs import save_program

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def symbolic(folder: Path, shape: Any) -> Path:
    """A program that doubles x, whose second size is not known."""
    from coremltools.converters.mil.mil import get_new_symbol

    return save_program(
        folder,
        lambda x: mb.mul(x=x, y=np.float32(2)),
        {"x": ((1, get_new_symbol()), "fp32")},
        inputs=[ct.TensorType(name="x", shape=shape)],
    )


def test_a_range_of_sizes(tmp_path: Path) -> None:
    # given
    model = load(symbolic(tmp_path, ct.Shape((1, ct.RangeDim(2, 4, default=3)))))

    # when, then
    for size in (2, 3, 4):
        assert model.predict({"x": np.ones((1, size))})["y0"].tolist() == [[2.0] * size]
    for size in (1, 5):
        with pytest.raises(InputError, match=r"expects \(1, 2 to 4\)"):
            model.predict({"x": np.ones((1, size))})


def test_enumerated_shapes(tmp_path: Path) -> None:
    # given
    model = load(symbolic(tmp_path, ct.EnumeratedShapes(shapes=[(1, 2), (1, 5)])))

    # when, then
    assert model.predict({"x": np.ones((1, 5))})["y0"].shape == (1, 5)
    with pytest.raises(InputError, match=r"one of \(1, 2\), \(1, 5\)"):
        model.predict({"x": np.ones((1, 3))})


@pytest.mark.parametrize(("layout", "order"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_colour_images(tmp_path: Path, layout: str, order: list[int]) -> None:
    # given
    color = getattr(ct.colorlayout, layout)
    path = save_program(
        tmp_path, lambda x: mb.add(x=x, y=np.float32(0.5)), {"x": ((1, 3, 4, 5), "fp32")},
        inputs=[ct.ImageType(name="x", shape=(1, 3, 4, 5), color_layout=color)],
    )  # fmt: skip
    model = load(path)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)

    # when
    result = model.predict({"x": Image.fromarray(pixels)})["y0"]

    # then
    np.testing.assert_array_equal(result[0], pixels.transpose(2, 0, 1)[order] + np.float32(0.5))
    with pytest.raises(InputError, match="the image is 4 x 5"):
        model.predict({"x": Image.new("RGB", (4, 5))})
    with pytest.raises(InputError, match="mode RGB or RGBA is expected"):
        model.predict({"x": Image.new("L", (5, 4))})
    with pytest.raises(InputError, match="a PIL image is expected"):
        model.predict({"x": pixels})


def test_the_functions_of_a_package(tmp_path: Path) -> None:
    # given: two models that share nothing but the file
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, factor in (("double", 2), ("triple", 3)):
        (tmp_path / name).mkdir()
        path = save_program(
            tmp_path / name, lambda x, by=factor: mb.mul(x=x, y=np.float32(by)), {"x": ((2,), "fp32")}, opset="ios18"
        )
        descriptor.add_function(str(path), src_function_name="main", target_function_name=name)
    descriptor.default_function_name = "double"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))

    # when
    results = [
        load(tmp_path / "both.mlpackage", function).predict({"x": np.ones(2)})["y0"][0]
        for function in (None, "double", "triple")
    ]

    # then
    assert results == [2, 2, 3]
    with pytest.raises(InputError, match="no function 'half'"):
        load(tmp_path / "both.mlpackage", "half")


def test_a_state_outlives_a_prediction(tmp_path: Path) -> None:
    # given: a program that adds x to what it keeps
    @mb.program(
        input_specs=[mb.TensorSpec((2,), dtype=ct.converters.mil.mil.types.fp16),
                     mb.StateTensorSpec((2,), dtype=ct.converters.mil.mil.types.fp16)],
        opset_version=ct.target.iOS18,
    )  # fmt: skip
    def program(x: Any, kept: Any) -> Any:
        return mb.coreml_update_state(state=kept, value=mb.add(x=mb.read_state(input=kept), y=x), name="total")

    ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(
        str(tmp_path / "kept.mlpackage")
    )
    model = load(tmp_path / "kept.mlpackage")
    state, other = model.make_state(), model.make_state()

    # when
    totals = [model.predict({"x": np.array([1.0, 2.0])}, state=state)["total"].tolist() for _ in range(3)]

    # then: each state is its own
    assert totals == [[1, 2], [2, 4], [3, 6]]
    assert model.predict({"x": np.array([1.0, 2.0])}, state=other)["total"].tolist() == [1, 2]
    name = next(iter(model.states))
    state.write_state(name, np.array([10.0, 10.0]))
    assert state.read_state(name).tolist() == [10, 10]
    with pytest.raises(InputError, match="make_state"):
        model.predict({"x": np.ones(2)})
    with pytest.raises(InputError, match="no state"):
        state.read_state("no_such_name")
    with pytest.raises(InputError, match="numbers are expected"):
        state.write_state(name, "text")
    with pytest.raises(InputError, match="got dict"):
        model.predict({"x": np.ones(2)}, state={})  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(InputError, match="another model's"):
        model.predict({"x": np.ones(2)}, state=State({}, {}))


def test_intermediates_by_name(tmp_path: Path) -> None:
    # given
    def build(x: Any) -> Any:
        return mb.add(x=mb.mul(x=x, y=np.float32(2), name="doubled"), y=np.float32(1))

    model = load(save_program(tmp_path, build, {"x": ((2,), "fp32")}))

    # when
    every = model.predict({"x": [1, 2]}, intermediates="all")

    # then
    assert every["doubled"].tolist() == [2, 4]
    assert every["y0"].tolist() == [3, 5]
    for names in ("doubled", ["doubled"]):
        assert model.predict({"x": [1, 2]}, intermediates=names).keys() == {"doubled", "y0"}
    with pytest.raises(InputError, match="did you mean doubled"):
        model.predict({"x": [1, 2]}, intermediates=["doubles"])


def test_inputs_that_are_no_dictionary_by_name(tmp_path: Path) -> None:
    # given
    model = load(save_program(tmp_path, lambda x: mb.relu(x=x), {"x": ((2,), "fp32")}))

    # when, then
    with pytest.raises(InputError, match="dictionary by name, got list"):
        model.predict([{"x": [1, 2]}])  # type: ignore[arg-type]  # coremltools' convention, not ours
    with pytest.raises(InputError, match="unknown: 1; missing: x"):
        model.predict({1: [1, 2]})  # type: ignore[dict-item]  # a user's mistake


def test_models_and_features_print_in_a_line(tmp_path: Path) -> None:
    # given
    model = load(symbolic(tmp_path, ct.Shape((1, ct.RangeDim(2, 4, default=3)))))

    # when, then: neither weights nor the plan, which would be thousands of lines
    assert repr(model.inputs) == "{'x': <fp32 array (1, 2 to 4)>}"
    assert repr(model) == (
        "<mlProgram 'model.mlpackage', inputs {'x': <fp32 array (1, 2 to 4)>}, outputs {'y0': <fp32 array any shape>}>"
    )
    image = ImageFeature(name="picture", color="RGB", width=4, height=3, optional=True)
    assert repr(image) == "<RGB image 4 x 3 (width x height), optional>"


@pytest.mark.parametrize("value", [300, -129, 1e30, float("inf"), float("nan"), 0.5])
def test_a_number_that_an_integer_input_cannot_hold(value: float) -> None:
    # given
    feature = ArrayFeature(name="x", dtype="int8", shape=(2,))

    # when, then
    with pytest.raises(InputError, match="int8 is expected"):
        check_inputs({"x": feature}, {"x": np.array([0, value])})
    assert check_inputs({"x": feature}, {"x": [-128.0, 127.0]})["x"].tolist() == [-128, 127]
