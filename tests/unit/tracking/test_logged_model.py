"""A build as an MLflow 3 model: sent once, loaded by its alias, linked to its run and its data."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from builder.artifacts.checks import CheckedPicture
from builder.spec import BuildSpec
from builder.tracking import outbox
from builder.tracking.logged_model import model_name
from tests import warm
from tests.unit.conftest import _record

PROGRAM = """
import base64, io, json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from builder.tracking import flusher, logged_model, mlflow_store

# given a flusher that meets an older server, and one that is cut off while it sends the model's files
outputs = Path(sys.argv[1])
class Older:
    def search_logged_models(self, *arguments, **options):
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
        raise MlflowException("API request failed with error code 404 != 200", error_code=ENDPOINT_NOT_FOUND)
(name,) = flusher.outbox.waiting(outputs)
folder = flusher.outbox.files_folder(outputs, name)
older = logged_model.log_model(Older(), flusher.outbox.read(outputs, name), folder, "1", "run")
real = logged_model._upload
def cut(client, logged, *arguments):
    client.set_logged_model_tags(logged.model_id, {"cut": "off"})
    raise ConnectionError("cut off")
logged_model._upload = cut
one = flusher.flush(outputs)
logged_model._upload = real
two = flusher.flush(outputs)

import mlflow
from mlflow.exceptions import MlflowException

uri = mlflow_store.store_uri(None, outputs)
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("builder").experiment_id])
(model,) = client.search_logged_models([run.info.experiment_id])
loaded = mlflow.pyfunc.load_model("models:/digits@champion")

def refused(given, **params):
    try:
        loaded.predict(given, params=params or None)
    except MlflowException as error:
        return [error.error_code, error.message, error.get_http_status_code()]

picture = Path(sys.argv[2]).read_bytes()
predicted = loaded.predict({"image": picture})
print(json.dumps({
    "older": [older.model_id, older.note],
    "kept": [kept.reason for kept in one.kept], "sent": list(two.sent),
    "model": {"id": model.model_id, "name": model.name, "status": str(model.status), "tags": model.tags,
              "params": model.params, "type": model.model_type, "run": model.source_run_id},
    "metrics": {m.key: [m.value, m.dataset_name, m.dataset_digest] for m in model.metrics},
    "run": {"id": run.info.run_id, "models": [m.model_id for m in run.outputs.model_outputs],
            "data": [[d.dataset.name, d.dataset.digest, d.dataset.source, d.tags[0].value]
                     for d in run.inputs.dataset_inputs],
            "files": sorted(file.path for file in client.list_artifacts(run.info.run_id))},
    "version": client.get_model_version_by_alias("digits", "champion").source,
    "requirements": mlflow.pyfunc.get_model_dependencies("models:/digits@champion"),
    "loader": loaded.metadata.flavors["python_function"]["loader_module"],
    "example": base64.b64encode(loaded.input_example["image"][0]).decode(),
    "rows": predicted.to_dict("records"),
    "alone": list(mlflow.pyfunc.load_model(
        "models:/digits@champion", model_config={"output": next(iter(predicted))}).predict({"image": picture})),
    "best": loaded.predict({"image": picture}, params={"top_k": 1}).to_dict("records"),
    "refused": [refused({"image": b"no picture"}), refused({"imge": picture}), refused({"image": picture}, top_k=0)],
}))
"""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A small classifier of pictures of 8 x 8, and the network that it was converted from."""
    import coremltools as ct

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3), torch.nn.Softmax(dim=1)).eval()
    path = tmp_path_factory.mktemp("classifier") / "classifier.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's tracing, and of names that coremltools chooses
        ct.convert(
            torch.jit.trace(network, torch.zeros(1, 3, 8, 8)),  # type: ignore[no-untyped-call]
            inputs=[ct.ImageType(name="image", shape=(1, 3, 8, 8), scale=1 / 255)],
            classifier_config=ct.ClassifierConfig(["cat", "dog", "bird"]),
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        ).save(str(path))
    return path, network


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def result(classifier: tuple[Path, torch.nn.Module], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What MLflow has after a build of the classifier was sent."""
    tmp_path = tmp_path_factory.mktemp("build")
    outputs = tmp_path / "outputs"
    record = _record(outputs)
    config = {
        **record.request.config,
        "tracking": {"kind": "mlflow", "register_as": "digits", "alias": "champion"},
    }
    seen = CheckedPicture(
        input="image", png=png(Image.new("RGB", (8, 8), (200, 0, 0))), label=None, reference_top=(), artifact_top=(),
        engine="runtime",
    )  # fmt: skip
    checks = tuple(replace(check, pictures=(seen,)) if check.name == "parity" else check for check in record.checks)
    record = replace(
        record, request=replace(record.request, spec=BuildSpec.model_validate(config), config=config), checks=checks
    )
    shutil.copytree(classifier[0], record.artifact.path)
    (record.artifact.path.parent / "build.json").write_text("{}")
    (tmp_path / "picture.png").write_bytes(png(_picture()))
    outbox.put(record, outputs)
    command = [warm.python(), "-c", PROGRAM, str(outputs), str(tmp_path / "picture.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "mlflow.db").exists(), "everything goes to the store of the entry"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _picture() -> Image.Image:
    levels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def test_a_build_is_one_model_that_mlflow_loads(
    result: dict[str, Any], classifier: tuple[Path, torch.nn.Module]
) -> None:
    # then it was sent once, although the first attempt broke off, and is ready
    assert result["kept"] == ["cut off"]
    model, run = result["model"], result["run"]
    assert (model["name"], model["status"], model["type"]) == ("mobilenet_v2_fp16", "READY", "mlpackage")
    assert model["tags"]["cut"] == "off", "the second attempt goes on with the same model"
    assert model["params"]["precision.kind"] == "fp16"
    assert (run["id"], run["models"], result["version"]) == (model["run"], [model["id"]], f"models:/{model['id']}")
    assert run["files"] == ["build.json", "config.yaml"], "the artifact is in the model, and not sent twice"

    # and what it says of a picture is what the network says
    with torch.no_grad():
        levels = torch.from_numpy(np.array(_picture())).permute(2, 0, 1)[None] / 255
        truth = classifier[1](levels)[0].tolist()
    (row,) = result["rows"]
    assert row["classLabel"] == ["cat", "dog", "bird"][int(np.argmax(truth))]
    (shares,) = (value for value in row.values() if isinstance(value, dict))
    assert list(shares.values()) == pytest.approx(sorted(truth, reverse=True), abs=1e-5)
    assert result["alone"] == [next(iter(row.values()))]
    assert [len(value) for value in result["best"][0].values() if isinstance(value, dict)] == [1]


def test_metrics_are_linked_to_the_data(result: dict[str, Any]) -> None:
    name, digest, source, context = result["run"]["data"][0]
    assert (name, digest, context) == ("4 photographs", "5a", "parity")
    assert json.loads(source)["digest"] == "sha256:5a"
    assert result["metrics"]["parity/probabilities/snr_db"] == [48.31234, "4 photographs", "5a"]
    assert result["metrics"]["bytes"][1:] == [None, None]


def test_loading_needs_the_runtime_and_unpickles_nothing(result: dict[str, Any]) -> None:
    lines = Path(result["requirements"]).read_text().split()
    assert [line.partition("==")[0] for line in lines] == [
        "mlflow", "coreml-runtime", "numpy", "pillow", "protobuf", "torch",
    ]  # fmt: skip
    assert result["loader"] == "coreml_runtime.pyfunc"


def test_the_example_is_a_picture_of_the_checks(result: dict[str, Any]) -> None:
    import base64

    picture = Image.open(io.BytesIO(base64.b64decode(result["example"])))
    assert picture.getpixel((0, 0)) == (200, 0, 0)


def test_wrong_inputs_are_bad_requests(result: dict[str, Any]) -> None:
    assert [refused[2] for refused in result["refused"]] == [400] * 3
    messages = [refused[1] for refused in result["refused"]]
    assert "input image: cannot be read as a picture" in messages[0]
    assert "missing inputs ['image']" in messages[1]
    assert "top_k is a number of classes from 1 on, got 0" in messages[2]


def test_a_server_without_models_gets_files(result: dict[str, Any]) -> None:
    assert result["older"] == [None, "not logged as a model: the server is older than MLflow 3 and has none"]


def test_names_are_what_mlflow_takes() -> None:
    assert model_name("a/b:c.d%'\"") == "a_b_c_d___"
