"""The same by the system's own ssh and scp, to a server on loopback whose commands run on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.__main__ import main
from builder.reports.build_json import read_build_json
from tests.unit.device.mac import ROOT
from tests.unit.small_project import NET, RECIPE

asyncssh = pytest.importorskip("asyncssh", reason="the server is asyncssh's")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ssh") is None or shutil.which("scp") is None, reason="needs OpenSSH's client"),
    pytest.mark.filterwarnings("ignore"),  # of asyncssh and what it imports
]


@contextmanager
def serving(home: Path, key: Any, client: Any, environment: dict[str, str]) -> Iterator[int]:
    """A server that lets the client's key in; yields its port."""
    loop = asyncio.new_event_loop()

    async def run(process: Any) -> None:
        command = process.command.replace("python3 ", f"{sys.executable} ", 1)
        child = await asyncio.create_subprocess_shell(
            command, cwd=home, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, error = await child.communicate()
        process.stdout.write(out.decode())
        process.stderr.write(error.decode())
        process.exit(child.returncode)

    async def begin() -> Any:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], process_factory=run, sftp_factory=True, allow_scp=True,
            authorized_client_keys=asyncssh.import_authorized_keys(client.export_public_key().decode()),
        )  # fmt: skip

    async def end(server: Any) -> None:
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
    try:
        yield server.get_port()
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def test_a_real_client_measures_on_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # given a project, a server, and a client that knows it
    folder, home, programs, site = (tmp_path / name for name in ("project", "home", "programs", "site"))
    for each in (folder / "recipes", home, programs, site):
        each.mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("small_net.py").write_text(NET)
    Path("recipes/small.yaml").write_text(RECIPE)
    (site / "sitecustomize.py").write_text("import coreml_runtime\ncoreml_runtime.install()\n")
    key, client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "id").write_bytes(client.export_private_key("openssh"))
    (tmp_path / "id").chmod(0o600)
    environment = {
        **os.environ, "PYTHONPATH": f"{site}:{ROOT}:{ROOT / 'runtime'}", "BUILDER_DEVICE_STAND_IN": "1",
        "TMPDIR": str(home),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    with serving(home, key, client, environment) as port:
        known = key.export_public_key().decode()
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {known}")
        (tmp_path / "config").write_text(
            f"IdentityFile {tmp_path / 'id'}\nIdentitiesOnly yes\nUserKnownHostsFile {tmp_path / 'known'}\n"
            "StrictHostKeyChecking yes\nUser somebody\n"
        )
        older = {"scp": "-O "}  # asyncssh ends its SFTP without an exit code, for which scp fails
        for name in ("ssh", "scp"):
            options = f"-F {tmp_path / 'config'} {older.get(name, '')}"
            (programs / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} {options}"$@"\n')
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        # when it measures
        code = main(["device", "run", f"ssh://127.0.0.1:{port}", "recipe=small", "--rounds", "2"])
        assert code == 0, capfd.readouterr().err
        (device,) = read_build_json(Path("outputs/small/default"))["devices"]
        assert list(device["units"]) == ["cpu", "gpu", "ane", "all"]
        assert [each for each in home.iterdir() if each.name.startswith("tmp.")] == []
        # and a server that it does not know is refused
        (tmp_path / "known").write_text("")
        assert main(["device", "run", f"ssh://127.0.0.1:{port}", "recipe=small"]) == 7
        assert "Host key verification failed" in capfd.readouterr().err
