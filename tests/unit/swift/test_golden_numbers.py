"""The golden numbers of a package are what the runtime makes of the artifact in it, and limits are the recipe's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.config.compose import compose
from builder.spec import BuildSpec
from builder.swift.golden import make_golden
from builder.swift.write import write_package
from tests.runtime.programs import save_program
from tests.runtime.stateful import save_stateful
from tests.unit.swift.executed import numbers, package_of, require_golden

DIGITS = Path(__file__).parents[3] / "recipes" / "files" / "digits.mlpackage"


def test_a_classifier(tmp_path: Path) -> None:
    package = package_of(DIGITS)
    folder = write_package(package, None, tmp_path / "Digits")
    assert require_golden(folder, package) == 6
    assert package.task == "classifier"


def test_states_go_on_from_step_to_step(tmp_path: Path) -> None:
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813

    def build(x: Any, held: Any, sum_: Any) -> Any:
        total = mb.add(x=mb.read_state(input=sum_), y=x)
        mb.coreml_update_state(state=sum_, value=total)
        mb.coreml_update_state(state=held, value=x)
        return mb.identity(x=total), mb.identity(x=mb.read_state(input=held))

    package = package_of(save_stateful(tmp_path, build))
    folder = write_package(package, None, tmp_path / "Sums")
    assert package.task == "step"
    assert require_golden(folder, package) == 6
    golden = folder / "Tests" / f"{package.module}Tests" / "Golden"
    document = json.loads((golden / "golden.json").read_text(encoding="utf-8"))
    assert [each["begins"] for each in document["predictions"]] == [True, False, False]
    inputs = [numbers(each["inputs"]["x"], golden) for each in document["predictions"]]
    last = numbers(document["predictions"][2]["outputs"]["y0"], golden)
    np.testing.assert_allclose(last, sum(inputs), atol=2e-2)  # half precision


def test_whole_numbers_and_several_arrays(tmp_path: Path) -> None:
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813

    path = save_program(
        tmp_path,
        lambda a, b: (mb.add(x=a, y=a), mb.add(x=b, y=1)),
        {"a": ((2, 3), "fp32"), "b": ((4,), "int32")},
    )
    package = package_of(path)
    assert require_golden(write_package(package, None, tmp_path / "Two"), package) == 6
    assert package.task == "arrays"


def test_pictures_are_whole_levels_and_never_a_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"not even a picture")
    golden = make_golden(package_of(DIGITS), _spec(f"checks.parity.data={{kind: folder, folder: {tmp_path}}}"))
    assert {len(data) for data in golden.files.values()} == {28 * 28, 4 * 10}


@pytest.mark.parametrize(
    ("overrides", "snr"),
    [
        (["precision=fp32"], 80 - 6.02),
        (["precision=fp16"], 30 - 6.02),
        (["precision=fp16", "compression=palettize_4", "target=ios16"], 30 - 6.02),
        (["precision=fp16", "checks.parity.snr_db.min=50"], 50 - 6.02),
    ],
)
def test_limits_are_the_recipes(overrides: list[str], snr: float) -> None:
    spec = _spec(*overrides)
    limits = make_golden(package_of(DIGITS), spec).document["limits"]
    assert limits["coreML"]["cpu"]["snr"] == pytest.approx(snr)
    assert limits["coreML"]["others"] == limits["coreML"]["cpu"]


def test_a_neural_network_has_half_precision_off_the_cpu(neural_network: Path) -> None:
    limits = make_golden(package_of(neural_network), _spec("precision=fp32")).document["limits"]
    assert limits["coreML"]["cpu"]["snr"] == pytest.approx(80 - 6.02)
    assert limits["coreML"]["others"]["snr"] == pytest.approx(30 - 6.02)


def _spec(*overrides: str) -> BuildSpec:
    return compose(["recipe=digits_mobilenet", *overrides]).spec


@pytest.fixture
def neural_network(tmp_path: Path) -> Path:
    import coremltools as ct
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("y", datatypes.Array(4))])
    builder.add_activation("relu", "RELU", "x", "y")
    path = tmp_path / "net.mlmodel"
    ct.models.utils.save_spec(builder.spec, str(path))
    return path


def test_a_neural_network(neural_network: Path, tmp_path: Path) -> None:
    package = package_of(neural_network)
    folder = write_package(package, None, tmp_path / "Net")
    assert require_golden(folder, package) == 3
    assert '.process("Resources/net.mlmodel")' in (folder / "Package.swift").read_text(encoding="utf-8")
