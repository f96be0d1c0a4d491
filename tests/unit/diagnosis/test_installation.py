"""The installation: what is unfit is told with what to do, and what is fit is told too."""

from __future__ import annotations

import http.server
import threading
from importlib import metadata
from pathlib import Path

import pytest

from builder.__main__ import main
from builder.analysis import installation
from builder.backends.coreml.preflight.known_bugs import bugs_here


def by_name(outputs: Path) -> dict[str, installation.Finding]:
    return {finding.about: finding for finding in installation.examine_installation(outputs)}


def test_this_installation_is_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    screen = capsys.readouterr().out
    assert screen.endswith("fit to build\n")
    for issue in (bug.issue for bug in bugs_here() if bug.issue):
        assert f"apple/coremltools#{issue}" in screen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("package", "version", "told"),
    [
        ("numpy", "2.4.1", "2.4.1 is not in the range <2.4,>=2.0: coremltools 9.0 breaks on it"),
        ("coremltools", "8.3.0", "8.3.0 is not in the range <10,>=9.0"),
    ],
)
def test_a_version_out_of_range_is_unfit(
    package: str, version: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == package else real(name))
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 7
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"unfit  {package} ")
    assert told in first


def test_a_missing_package_is_unfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "safetensors":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    finding = by_name(tmp_path)["safetensors"]
    assert (finding.fit, finding.summary) == (False, "is not installed")


def test_a_torchvision_of_another_torch_is_unfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = metadata.requires
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch==2.9.0"] if name == "torchvision" else real(name))
    finding = by_name(tmp_path)["torch and torchvision"]
    assert not finding.fit
    assert "torchvision was made for torch==2.9.0" in finding.summary


def test_another_version_than_the_tested_one_is_worth_a_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pinned = tmp_path / "constraints.txt"
    pinned.write_text(f"numpy==2.0.0\nrich=={metadata.version('rich')}\nno-such-package==1\n")
    monkeypatch.setattr(installation, "_constraints", lambda: pinned)
    finding = by_name(tmp_path)["tested set"]
    assert (finding.fit, finding.notable) == (True, True)
    assert finding.summary == f"numpy {metadata.version('numpy')} (tested 2.0.0)"


def test_native_libraries_that_are_missing_are_unfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installation, "_NATIVE", ("libnothing",))
    finding = by_name(tmp_path)["coremltools libnothing"]
    assert not finding.fit
    assert "#2695" in finding.summary


def test_a_cache_that_cannot_be_written_is_unfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(installation.tempfile, "TemporaryFile", refuse)
    finding = by_name(tmp_path)["cache"]
    assert not finding.fit
    assert "BUILDER_CACHE" in str(finding.hint)


@pytest.mark.parametrize(("free", "fit"), [(100_000_000, False), (1_000_000_000, True)])
def test_a_full_disk_is_unfit_and_a_nearly_full_one_is_told(
    free: int, fit: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda _: usage)
    finding = by_name(tmp_path)["outputs"]
    assert (finding.fit, finding.notable) == (fit, True)


def test_a_tracking_server_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given a server that answers, then one that is gone
    server = http.server.HTTPServer(("127.0.0.1", 0), _Healthy)
    address = f"http://me:secret@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("me:secret@", ""))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert "answers (200)" in installation._tracking(tmp_path).summary
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    gone = installation._tracking(tmp_path)
    # then its outage is told, and no reason not to build
    assert (gone.fit, gone.notable) == (True, True)
    assert "does not answer" in gone.summary
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert "secret" not in installation._tracking(tmp_path).summary


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: object) -> None:
        pass
