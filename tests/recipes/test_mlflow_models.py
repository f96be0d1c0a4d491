"""Shipped recipes in MLflow: served on loopback, predicted with by its command line, and evaluated, by our runtime."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreml_runtime as runtime
from tests import warm

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow_models")]
RECIPES = {"digits": "digits_mobilenet", "text": "text_encoder", "matte": "segmentation_matte"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipes were built and registered."""
    folder = tmp_path_factory.mktemp("served")
    for name, recipe in RECIPES.items():
        run(folder, "builder", f"recipe={recipe}", "tracking=mlflow", f"tracking.register_as={name}",
            "tracking.alias=champion", "-q")  # fmt: skip
    run(folder, "builder", "flush")
    return folder


def run(folder: Path, *command: str, check: bool = True) -> str:
    """The output of `python -m …` in a folder, with MLflow's store of builds in there."""
    done = subprocess.run(
        [warm.python(), "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment(folder),
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """One store for everything."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow calls uvicorn by its name
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/outputs/mlflow.db",
        "BUILDER_CACHE": f"{folder}/c",
    }


@contextmanager
def served(folder: Path, name: str) -> Iterator[str]:
    """The address of `mlflow models serve` for a registered model, on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}@champion", "--port", str(port)]
    log = folder / f"{name}.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "--host", "127.0.0.1"],
            cwd=folder, env=environment(folder), stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 120
            while not answers(f"{address}/ping"):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield f"{address}/invocations"
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address):
            return True
    except OSError:
        return False


def post(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of a request."""
    request = urllib.request.Request(
        address, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def picture(size: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8))


def encoded(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def artifact(store: Path, name: str) -> Any:
    return runtime.load(store / "outputs" / RECIPES[name] / "default" / f"{RECIPES[name]}.mlpackage")


def test_a_classifier_answers_pictures(store: Path) -> None:
    # given the runtime's own answer to a picture of the model's size
    image = picture(32)
    truth = artifact(store, "digits").predict({"image": image})
    best = sorted(truth["probabilities"].items(), key=lambda item: -item[1])[:2]

    with served(store, "digits") as address:
        # when the same is asked in all forms that MLflow has
        value = encoded(image)
        bodies: list[dict[str, Any]] = [
            {"dataframe_records": [{"image": value}]},
            {"dataframe_split": {"columns": ["image"], "data": [[value]]}},
            {"inputs": {"image": [value]}},
            {"instances": [{"image": value}]},
        ]
        given = [post(address, {**body, "params": {"top_k": 2}}) for body in bodies]
        bad = [
            post(address, {"dataframe_records": [{"image": base64.b64encode(b"no picture").decode()}]}),
            post(address, {"dataframe_records": [{"picture": value}]}),
            post(address, {"dataframe_records": [{"image": value}], "params": {"top_k": 0}}),
        ]

    # then every answer is that of the runtime
    for status, answer in given:
        assert status == 200, answer
        (row,) = answer["predictions"]
        assert row["classLabel"] == truth["classLabel"]
        assert list(row["probabilities"].items()) == [(label, pytest.approx(share)) for label, share in best]
    assert [status for status, _ in bad] == [400, 400, 400]
    assert "input image: cannot be read as a picture" in bad[0][1]["message"]
    assert "missing inputs ['image']" in bad[1][1]["message"]
    assert "top_k is a number of classes from 1 on, got 0" in bad[2][1]["message"]


def test_an_encoder_answers_ids(store: Path) -> None:
    ids = np.random.default_rng(4).integers(1, 50, (3, 32), dtype=np.int32)
    model = artifact(store, "text")
    truth = np.concatenate([model.predict({"token_ids": row[None]})["embedding"] for row in ids])
    with served(store, "text") as address:
        status, answer = post(address, {"inputs": {"token_ids": ids.tolist()}})
        bad = [
            post(address, {"inputs": {"token_ids": [[1, 2]]}}),
            post(address, {"inputs": {"token_ids": [[10**8] * 32]}}),
        ]
    assert status == 200, answer
    np.testing.assert_allclose(answer["predictions"]["embedding"], truth, rtol=1e-6)
    assert [status for status, _ in bad] == [400, 400]
    assert "(1, 2) does not match expected shape (-1, 32)" in bad[0][1]["message"]
    assert "the prediction failed" in bad[1][1]["message"]


def test_a_matte_is_a_picture(store: Path) -> None:
    image = picture(128)
    truth = artifact(store, "matte").predict({"image": image})["matte"]
    with served(store, "matte") as address:
        status, answer = post(address, {"dataframe_records": [{"image": encoded(image)}]})
    assert status == 200, answer
    matte = Image.open(io.BytesIO(base64.b64decode(answer["predictions"][0]["matte"])))
    assert np.array_equal(np.asarray(matte), np.asarray(truth))


def test_the_command_line_predicts_with_the_example(store: Path) -> None:
    # given the example that the build left
    code = "import mlflow, sys; print(mlflow.artifacts.download_artifacts('models:/digits@champion', dst_path='got'))"
    subprocess.run([warm.python(), "-c", code], cwd=store, check=True, env=environment(store), capture_output=True)
    example = next((store / "got").rglob("serving_input_example.json"))

    # when, then it is an input as `mlflow models predict` reads them
    said = run(
        store,
        "mlflow",
        "models",
        "predict",
        "-m",
        "models:/digits@champion",
        "-i",
        str(example),
        "--env-manager",
        "local",
    )
    (row,) = json.loads(said.splitlines()[-1])["predictions"]
    assert row["classLabel"] in {str(digit) for digit in range(10)}


EVALUATE = """
import io, json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, numpy as np, pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

pictures, labels = load_digits(return_X_y=True)
def png(levels):
    stream = io.BytesIO()
    Image.fromarray((levels.reshape(8, 8) * 16).clip(0, 255).astype(np.uint8)).resize((32, 32)).save(stream, "PNG")
    return stream.getvalue()
data = pd.DataFrame({"image": [png(p) for p in pictures[:40]], "label": [str(label) for label in labels[:40]]})
model = mlflow.pyfunc.load_model("models:/digits@champion")
right = float((model.predict(data[["image"]])["classLabel"] == data["label"]).mean())
with mlflow.start_run():
    found = mlflow.models.evaluate(
        "models:/digits@champion", data, targets="label", model_type="classifier",
        model_config={"output": "classLabel"}, evaluator_config={"log_model_explainability": False},
    )
print(json.dumps([found.metrics["accuracy_score"], right]))
"""


def test_mlflow_evaluates_a_classifier(store: Path) -> None:
    done = subprocess.run(
        [warm.python(), "-c", EVALUATE], cwd=store, capture_output=True, text=True, check=False, env=environment(store)
    )
    assert done.returncode == 0, done.stderr
    accuracy, right = json.loads(done.stdout.splitlines()[-1])
    assert accuracy == pytest.approx(right)
