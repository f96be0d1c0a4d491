"""An artifact that goes to a Mac and comes back with numbers; and what is refused, so that nothing is attached."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.__main__ import main
from builder.artifacts.devices import DeviceMeasurement, UnitMeasurement, figures, measurement_file
from builder.device.attach import metric_name
from builder.device.remote import Host, read_host
from builder.errors import BuilderError
from builder.jobs.table import Row
from builder.reports.build_json import read_build_json
from builder.search.measures import UnmeasuredError, is_known, value_of
from tests.unit.device.mac import write_mac
from tests.unit.small_project import make_small_project


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one build and a stand-in for a Mac; each test works on a copy."""
    folder = tmp_path_factory.mktemp("project")
    return make_small_project(folder, ["recipe=small"], ["device", "pack", "recipe=small", "-o", "pack"])


@pytest.fixture(autouse=True)
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(built, folder)
    monkeypatch.setenv("BUILDER_CACHE", str(built.parent / "store"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{write_mac(tmp_path)}:{os.environ['PATH']}")
    return folder


def build_json() -> dict[str, Any]:
    return read_build_json(Path("outputs/small/default"))


def returned(change: Callable[[dict[str, np.ndarray]], Any] = lambda outputs: None, **fields: Any) -> None:
    """What a device would write into the pack: the golden outputs after `change`, for one unit."""
    folder = Path("pack")
    with np.load(folder / "golden/outputs.npz") as file:
        outputs = {name: file[name] for name in file.files}
    change(outputs)
    np.savez(folder / "device-ane.npz", **outputs)
    pack = (folder / "pack.json").read_bytes()
    unit = {
        "latency_ms": 1.25, "latency_p95_ms": 1.5, "rounds": 50, "load_cold_ms": 300.0, "load_warm_ms": 20.0,
        "peak_bytes": 120_000_000, "placement": {"ane": 3, "cpu": 1, "gpu": 0}, "placement_reason": "",
        "outputs": "device-ane.npz", "sha256": hashlib.sha256((folder / "device-ane.npz").read_bytes()).hexdigest(),
    }  # fmt: skip
    document = {
        "schema": 1, "pack": hashlib.sha256(pack).hexdigest(), "artifact": json.loads(pack)["artifact"],
        "stand_in": False, "device": {"model": "Mac15,9", "chip": "Apple M3 Max", "system": "macOS 26.1"},
        "tools": {"coremltools": "9.0"}, "started": "2026-01-01T00:00:00Z",
        "units": {"ane": unit, "gpu": {"failed": "no such unit"}}, **fields,
    }  # fmt: skip
    (folder / "device.json").write_text(json.dumps(document))


def is_attached() -> bool:
    return bool(build_json()["devices"]) or Path("outputs/.devices").exists()


def test_a_mac_measures_by_ssh(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # when the stand-in for a Mac is asked
    code = main(["device", "run", "ssh://me@mac.local:2222", "recipe=small", "--rounds", "3"])
    out, err = capfd.readouterr()
    assert code == 0, err
    # then all units are measured, as a stand-in's, whose numbers are nobody's
    (device,) = build_json()["devices"]
    assert device["stand_in"] is True
    assert list(device["units"]) == ["cpu", "gpu", "ane", "all"]
    for unit in device["units"].values():
        assert unit["latency_ms"] > 0
        assert unit["load_cold_ms"] > unit["load_warm_ms"] > 0
        assert unit["peak_bytes"] > 10_000_000
        assert unit["rounds"] == 3
        assert unit["placement"] is None
        assert unit["differences"]["y"]["max_abs"] == 0
    assert figures(device) == {}
    assert "a stand-in answered" in err
    assert Path(out.strip()).is_file()
    page = Path("outputs/small/default/report.html").read_text()
    assert "A stand-in answered" in page
    # and nothing is left on the Mac
    assert list((tmp_path / "mac").iterdir()) == []


def test_what_a_device_measured_is_attached_and_stays_with_the_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    # given what a Mac returned
    returned()
    # when it is taken
    assert main(["device", "take", "pack/device.json"]) == 0
    # then the record and the page have it
    (device,) = build_json()["devices"]
    assert device["model"] == "Mac15,9"
    assert device["failed"] == {"gpu": "no such unit"}
    assert figures(device)["Mac15,9.ane.latency_ms"] == 1.25
    page = Path("outputs/small/default/report.html").read_text()
    assert "Mac15,9 (Apple M3 Max, macOS 26.1)" in page
    assert "1.25 ms" in page
    assert "ane 3, cpu 1" in page
    # and a second take replaces the first
    returned(started="2026-01-02T00:00:00Z")
    assert main(["device", "take", "pack/device.json"]) == 0
    assert [each["started"] for each in build_json()["devices"]] == ["2026-01-02T00:00:00Z"]
    # and a build of the same bytes has it from the beginning
    shutil.rmtree("outputs/small")
    assert main(["recipe=small"]) == 0
    assert build_json()["devices"] == json.loads(json.dumps([{**device, "started": "2026-01-02T00:00:00Z"}]))
    assert "Mac15,9 (Apple M3 Max" in Path("outputs/small/default/report.html").read_text()


def shifted(outputs: dict[str, np.ndarray]) -> None:
    outputs["1/y"] = outputs["1/y"] + 0.5


def not_numbers(outputs: dict[str, np.ndarray]) -> None:
    outputs["0/y"] = outputs["0/y"] * np.nan


@pytest.mark.parametrize("change", [shifted, not_numbers])
def test_outputs_beyond_the_limits_are_refused(change: Any, capsys: pytest.CaptureFixture[str]) -> None:
    returned(change)
    assert main(["device", "take", "pack/device.json"]) == 5
    assert "B0502" in capsys.readouterr().err
    assert not is_attached()


def halved() -> None:
    file = Path("pack/device.json")
    file.write_text(file.read_text()[:200])


def another_pack() -> None:
    Path("pack/pack.json").write_text(Path("pack/pack.json").read_text().replace('"samples": 3', '"samples": 2'))


def changed_outputs() -> None:
    with Path("pack/device-ane.npz").open("ab") as file:
        file.write(b"x")


def changed_golden() -> None:
    Path("pack/golden/outputs.npz").write_bytes(Path("pack/device-ane.npz").read_bytes() + b"x")


def lost_outputs() -> None:
    Path("pack/device-ane.npz").unlink()


def another_build() -> None:
    file = Path("outputs/small/default/build.json")
    document = json.loads(file.read_text())
    document["artifact"]["digest"] = "sha256:" + "0" * 64
    file.write_text(json.dumps(document))


def no_build() -> None:
    shutil.rmtree("outputs/small")


def no_pack() -> None:
    Path("pack/pack.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (halved, "not what measure.py writes"),
        (another_pack, "another pack"),
        (changed_outputs, "device-ane.npz is not the file that was written"),
        (changed_golden, "golden/outputs.npz is not the file that was packed"),
        (lost_outputs, "device-ane.npz is missing"),
        (another_build, "is not the build's"),
        (no_build, "there is no build of small"),
        (no_pack, "pack.json is missing"),
    ],
)
def test_what_is_damaged_is_refused(damage: Callable[[], None], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    returned()
    damage()
    assert main(["device", "take", "pack/device.json"]) == 6
    error = capsys.readouterr().err
    assert "B0611" in error
    assert said in " ".join(error.split())
    assert not Path("outputs/.devices").exists()


@pytest.mark.parametrize(
    "field", [{"stand_in": "no"}, {"units": {"ane": {"latency_ms": -1.0}}}, {"device": {}}, {"more": 1}, {"schema": 2}]
)
def test_fields_of_another_kind_are_refused(field: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    returned(**field)
    assert main(["device", "take", "pack/device.json"]) == 6
    assert not is_attached()


def test_outputs_that_are_missing_or_elsewhere_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    returned(lambda outputs: outputs.pop("2/y"))
    assert main(["device", "take", "pack/device.json"]) == 6
    returned()
    file = Path("pack/device.json")
    file.write_text(file.read_text().replace("device-ane.npz", "../device-ane.npz"))
    assert main(["device", "take", "pack/device.json"]) == 6
    assert not is_attached()


def test_nothing_measured_is_no_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    returned(units={"ane": {"failed": "the model does not load"}})
    assert main(["device", "take", "pack/device.json"]) == 5
    assert "the model does not load" in capsys.readouterr().err
    assert not is_attached()


def test_a_host_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MAC_HANGS", "measure.py")
    assert main(["device", "run", "ssh://mac", "recipe=small", "--timeout", "4"]) == 7
    error = " ".join(capsys.readouterr().err.split())
    assert "B0710" in error
    assert "mac could not measure: no answer within 4 s" in error
    assert not is_attached()


def test_a_host_that_refuses_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "run", "ssh://stranger", "recipe=small"]) == 7
    assert "Host key verification failed." in capsys.readouterr().err


def test_a_file_that_is_not_whole_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAC_HALVES", "device-cpu.npz")
    monkeypatch.setenv("MAC_UNITS", "cpu")  # a process less for each other
    assert main(["device", "run", "ssh://mac", "recipe=small", "--rounds", "1"]) == 6
    assert "device-cpu.npz is not the file that was written" in " ".join(capsys.readouterr().err.split())
    assert not is_attached()


@pytest.mark.parametrize("text", ["mac", "http://mac", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://m/x"])
def test_what_is_not_a_host_is_refused(text: str) -> None:
    with pytest.raises(BuilderError) as caught:
        read_host(text)
    assert caught.value.exit_code == 2


def test_hosts_have_users_and_ports() -> None:
    assert read_host("ssh://me@mac.local:2222") == Host(name="me@mac.local", port=2222)
    assert read_host("ssh://mac") == Host(name="mac")


def test_packs_are_for_what_builder_built(capsys: pytest.CaptureFixture[str]) -> None:
    (artifact,) = Path("outputs/small/default").glob("*.mlpackage")
    assert main(["device", "pack", str(artifact), "-o", "other"]) == 0
    assert main(["device", "pack", str(artifact), "-o", "other"]) == 2
    shutil.copytree(artifact, "loose.mlpackage")
    assert main(["device", "pack", "loose.mlpackage"]) == 2
    assert main(["device", "send", "x"]) == 2
    assert main(["device", "run", "ssh://mac"]) == 2
    names = {file.relative_to("other").as_posix() for file in Path("other").rglob("*") if file.is_file()}
    assert {"pack.json", "measure.py", "golden/inputs.npz", "golden/outputs.npz"} < names


def test_a_format_that_no_mac_measures_so_is_refused_before_it_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("outputs")
    assert main(["device", "pack", "recipe=small", "format=aimodel", "target=ios27", "-o", "other"]) == 2
    assert "Core AI assets are profiled by Xcode's instruments" in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_a_pack_that_was_interrupted_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builder.device.pack._golden", interrupted)
    before = sorted(Path().iterdir())
    assert main(["device", "pack", "recipe=small", "-o", "other"]) == 130
    assert sorted(Path().iterdir()) == before


def test_the_folder_that_came_back_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    returned()
    assert main(["device", "take", "pack"]) == 0


def measurement(**fields: Any) -> DeviceMeasurement:
    unit = UnitMeasurement(
        latency_ms=2.0, latency_p95_ms=3.0, rounds=9, load_cold_ms=1.0, load_warm_ms=1.0, peak_bytes=10
    )
    given: dict[str, Any] = {
        "artifact": "sha256:aa", "model": "iPhone16,2", "chip": "", "system": "", "tools": {}, "started": "",
        "samples": 3, "units": {"ane": unit}, **fields,
    }  # fmt: skip
    return DeviceMeasurement(**given)


def test_numbers_have_names_for_tables_and_tracking() -> None:
    found = figures(measurement())
    assert found["iPhone16,2.ane.latency_ms"] == 2.0
    assert metric_name("iPhone16,2.ane.latency_ms") == "device/iPhone16_2/ane/latency_ms"
    assert figures(measurement(stand_in=True)) == {}
    outcome: Any = None
    row = Row(
        outcome=outcome, recipe="x", variant="v", size_bytes=1, digest="", checks={},
        figures={f"device.{name}": value for name, value in found.items()},
    )  # fmt: skip
    assert is_known("device.iPhone16,2.ane.latency_ms", [])
    assert not is_known("device.iPhone16,2.ane.colour", [])
    assert value_of("device.iPhone16,2.ane.latency_ms", row, "largest") == 2.0
    with pytest.raises(UnmeasuredError, match="device run"):
        value_of("device.Mac15,9.ane.latency_ms", row, "largest")


def test_a_name_of_a_device_is_no_way_out_of_its_folder() -> None:
    file = measurement_file(Path("outputs"), "sha256:aa", "../../etc/x")
    assert file.parent == Path("outputs/.devices/aa")


HOSTILE_PACKS: dict[str, dict[str, object]] = {
    "samples without end": {"samples": 10**9},
    "samples that are no number": {"samples": float("inf")},
    "another folder": {"recipe": "../../victim"},
    "an absolute folder": {"recipe": "/victim"},
    "a variant elsewhere": {"variant": "../../victim"},
    "a file elsewhere": {"files": {"golden/../../../victim": "0"}},
    "files that are a list": {"files": [["a", 1]]},
    "a name that is no text": {"recipe": ["small"]},
}


@pytest.mark.parametrize("kind", HOSTILE_PACKS)
def test_a_pack_that_somebody_else_wrote_leads_nowhere(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    # given a pack that comes back with another description, whose digest is renewed
    pack = Path("pack/pack.json")
    artifact = json.loads(pack.read_text())["artifact"]
    pack.write_text(json.dumps({**json.loads(pack.read_text()), **HOSTILE_PACKS[kind]}))
    returned(artifact=artifact)
    # when it is taken, then it is refused, and nothing is attached
    assert main(["device", "take", "pack"]) == 6
    assert "the measurement is not taken" in capsys.readouterr().err
    assert not is_attached()
