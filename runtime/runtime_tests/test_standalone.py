"""The distribution by itself: what it imports, what it computes, and its command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreml_runtime
from coreml_runtime.cli import main
from coreml_runtime.proto import SCHEMA
from coreml_runtime.pyfunc import Predictor, has_batch_axis
from coreml_runtime.pyfunc import _load_pyfunc as load_pyfunc
from runtime_tests.conftest import LABELS, WEIGHTS

FOREIGN = {"builder", "coremltools", "torchvision", "mlflow", "pandas", "hydra"}


def picture() -> Image.Image:
    return Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20)


def truth() -> dict[str, float]:
    """The classes' shares by numpy: the linear layer reads channels, rows and columns in this order."""
    scores = WEIGHTS @ (np.asarray(picture(), dtype=np.float32) / 255).transpose(2, 0, 1).reshape(-1)
    shares = np.exp(scores - scores.max())
    return dict(zip(LABELS, (shares / shares.sum()).tolist(), strict=True))


def test_importing_it_brings_neither_torch_nor_numpy() -> None:
    code = "import coreml_runtime, sys; print(sorted({'torch', 'numpy', 'google.protobuf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_predicting_imports_nothing_foreign(classifier: Path, program: Path) -> None:
    code = (
        "import sys, coreml_runtime, numpy\n"
        f"coreml_runtime.load({str(program)!r}).predict({{'x': numpy.ones((1, 3))}})\n"
        f"coreml_runtime.load({str(classifier)!r})\n"
        f"print(sorted({FOREIGN!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_neural_network_of_pictures(classifier: Path) -> None:
    outputs = coreml_runtime.load(classifier).predict({"image": picture()})
    assert outputs["shares"] == pytest.approx(truth(), abs=1e-6)
    assert outputs["label"] == max(truth(), key=truth().__getitem__)


def test_a_program(program: Path) -> None:
    x = np.array([[-1.0, 0.5, 2.0]], dtype=np.float32)
    assert coreml_runtime.load(program).predict({"x": x})["y"].tolist() == [[0.0, 1.0, 4.0]]


def test_the_format_travels_with_the_package() -> None:
    assert SCHEMA.parent == Path(coreml_runtime.__file__).parent
    assert SCHEMA.stat().st_size > 50_000


def test_the_command_prints_classes(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a picture of another size
    picture().resize((4, 4), Image.Resampling.NEAREST).save(tmp_path / "p.png")

    # when
    code = main(
        ["predict", str(classifier), f"image={tmp_path / 'p.png'}", "--top", "2", "--output", str(tmp_path / "o")]
    )

    # then the best two classes are printed, and the shares written
    printed = capsys.readouterr()
    best = sorted(truth().items(), key=lambda item: -item[1])
    assert (code, printed.err) == (0, "")
    assert f"label: {best[0][0]}\n" in printed.out
    assert "shares:\n" + "".join(f"  {name:<4}  {share:.4f}\n" for name, share in best[:2]) in printed.out
    assert (tmp_path / "o" / "shares.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "MODEL", "imge=x.png"], 2, "did you mean `image`?"),
        (["predict", "MODEL"], 2, "add image=FILE"),
        (["predict", "MODEL", "image"], 2, "is not `name=FILE`"),
        (["predict", "MODEL", "image=none.png"], 2, "cannot be read as a picture"),
        (["predict", "none.mlmodel"], 3, "no such file or folder"),
        (["prodict"], 2, "invalid choice"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], code: int, message: str, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(classifier) if argument == "MODEL" else argument for argument in arguments]) == code
    assert message in capsys.readouterr().err


def test_mlflow_predicts_arrays_row_by_row(program: Path) -> None:
    # given two predictions along the first axis, which the model declares as 1
    predictor: Predictor = load_pyfunc(str(program))
    assert has_batch_axis(predictor.model.inputs["x"])  # type: ignore[arg-type]

    # when, then both are answered
    answer: dict[str, Any] = predictor.predict({"x": np.array([[1.0, -2.0, 3.0], [-4.0, 5.0, 6.0]])})
    assert answer["y"].tolist() == [[2.0, 0.0, 6.0], [0.0, 10.0, 12.0]]
