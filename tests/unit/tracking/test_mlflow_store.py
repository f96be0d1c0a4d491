"""A real MLflow store in sqlite: one run for a record however often it is sent, also when half of it was."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from builder.artifacts.record import BuildRecord
from builder.spec import BuildSpec
from builder.tracking import outbox
from tests import warm

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from builder.tracking import flusher, mlflow_store, outbox

outputs = Path(sys.argv[1])
first, second, third = outbox.waiting(outputs)
real_remove, real_files = outbox.remove, mlflow_store._log_values

# given a flusher that is killed after it has sent the first, and one that is cut off inside the second
outbox.remove = lambda outputs, name: None if name == first else real_remove(outputs, name)
def cut(client, run_id, entry, model_id):
    real_files(client, run_id, entry, model_id)
    if entry.identifier == second:
        raise ConnectionError("cut off")
mlflow_store._log_values = cut
one = flusher.flush(outputs)

# when the flusher runs again, whole
outbox.remove, mlflow_store._log_values = real_remove, real_files
two = flusher.flush(outputs)

with mlflow_store.connected(mlflow_store.store_uri(None, outputs)) as client:
    experiment = client.get_experiment_by_name("builder")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    versions = client.search_model_versions("name = 'digits'")
    print(json.dumps({
        "versions": sorted(int(version.version) for version in versions),
        "newest": int(client.get_model_version_by_alias("digits", "newest").version),
        "sources": [version.source for version in versions],
        "kept": [kept.identifier for kept in one.kept],
        "sent": [one.sent, two.sent],
        "location": experiment.artifact_location,
        "runs": [
            {
                "name": run.info.run_name, "status": run.info.status, "tags": run.data.tags,
                "params": run.data.params, "metrics": run.data.metrics,
                "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
                "history": len(client.get_metric_history(run.info.run_id, "bytes")),
            }
            for run in runs
        ],
    }))
"""


def test_each_record_becomes_one_complete_run(
    record: BuildRecord,
    make_record: Callable[..., BuildRecord],
    publish: Callable[..., BuildRecord],
    tmp_path: Path,
) -> None:
    # given three builds that are to be registered, one of them broken
    outputs = tmp_path / "outputs"
    config = {**record.request.config, "tracking": {"kind": "mlflow", "register_as": "digits"}}
    request = replace(record.request, spec=BuildSpec.model_validate(config))
    good = publish(make_record(request=request))
    names = [outbox.put(good, outputs), outbox.put(good, outputs)]
    names.append(outbox.put(make_record(request=request, status="broken"), outputs))
    names.sort()

    done = subprocess.run([warm.python(), "-c", PROGRAM, str(outputs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])

    # then the interrupted one was kept and then completed, and no record has a second run
    assert result["kept"] == [names[1]]
    assert result["sent"][1] == names[:2]
    runs = result["runs"]
    assert len(runs) == 3
    assert sorted(run["status"] for run in runs) == ["FAILED", "FINISHED", "FINISHED"]
    for run in runs:
        assert run["name"] == "mobilenet_v2_fp16/default"
        assert run["tags"]["builder.complete"] == "true"
        assert run["params"]["precision.kind"] == "fp16"
        assert run["metrics"]["parity/probabilities/snr_db"] == 48.31234
        assert run["history"] == 1
        assert run["files"] == ["artifact", "build.json", "build.log", "config.yaml", "report.html"]
    assert outbox.waiting(outputs) == []
    assert (result["versions"], result["newest"]) == ([1, 2], 2)
    # and the artifact, which is of no use to the runtime, is among the files of the run
    assert all(source.endswith("/artifacts/artifact") for source in result["sources"])
    assert all("rootModelIdentifier" in run["tags"]["model.note"] for run in runs)
    assert result["location"] == (outputs / "mlartifacts" / "builder").as_uri()
    assert (outputs / "mlflow.db").exists()


BUILD = """
import os, sys
from pathlib import Path
from builder.tracking import flusher

flusher.start_flusher(Path(sys.argv[1]))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""


def test_builds_that_end_at_once_leave_flushers_that_send_everything(
    record: BuildRecord, publish: Callable[..., BuildRecord], tmp_path: Path
) -> None:
    # given a fresh store, which several processes must not create together
    outputs = tmp_path / "outputs"
    publish(record)
    names = [outbox.put(record, outputs) for _ in range(4)]

    # when four builds end at the same time
    command = [warm.python(), "-c", BUILD, str(outputs)]
    builds = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [build.communicate(timeout=60)[0] for build in builds]

    # then none has a child left that could become a zombie, and all is sent soon after they are gone
    assert said == ["no child\n"] * 4
    deadline = time.monotonic() + 120
    while outbox.waiting(outputs) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert outbox.waiting(outputs) == [], (outputs / ".outbox" / "flush.log").read_text()
    database = sqlite3.connect(outputs / "mlflow.db")
    sent = database.execute("SELECT value FROM tags WHERE key = 'builder.record_id' ORDER BY value").fetchall()
    database.close()
    assert sent == [(name,) for name in sorted(names)]
