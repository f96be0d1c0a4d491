"""Pages in a real browser: whatever texts are on them, no script of theirs runs and nothing is loaded."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.artifacts.checks import CheckReport
from builder.artifacts.record import BuildRecord
from builder.reports.html import render_html
from builder.search.plots import write_page
from tests.unit.search.conftest import MakeSearch, trial

BROWSER = next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine"),
]

RAN = "document.documentElement.dataset.ran = 'yes'"


def attacks(address: str) -> list[str]:
    """Texts that run `RAN`, or fetch from `address`, where they are taken for anything but text."""
    return [
        f"<script>{RAN}</script>",
        f"</script><script>{RAN}</script>",
        f"</style><script>{RAN}</script>",
        f'"><img src="{address}/img" onerror="{RAN}">',
        f"<svg onload=\"{RAN}\"><use href='{address}/use#x'/></svg>",
        f'<iframe srcdoc="<script>parent.{RAN}</script>"></iframe>',
        f'<link rel="stylesheet" href="{address}/style"><style>@import "{address}/import";</style>',
        f'<meta http-equiv="refresh" content="0;url={address}/refresh"><base href="{address}/">',
        f'<a href="javascript:{RAN}">x</a>',
        f"' onmouseover='{RAN}' style='background:url({address}/url)'",
        "\u2028{RAN}\u2028".replace("{RAN}", RAN),
        f"${{{RAN}}}`\\u003cscript>{RAN}\\u003c/script>",
    ]


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join()


def shown(page: Path, folder: Path) -> str:
    """The document of a page after its scripts have run."""
    assert BROWSER is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", "--dump-dom"]  # fmt: skip
    done = subprocess.run([BROWSER, *options, page.as_uri()], capture_output=True, timeout=120, check=True, cwd=folder)
    return done.stdout.decode()


def test_the_browser_would_run_and_load_what_is_not_escaped(asked: tuple[str, list[str]], tmp_path: Path) -> None:
    address, paths = asked
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{''.join(attacks(address)[:4])}</body>")
    assert 'data-ran="yes"' in shown(tmp_path / "page.html", tmp_path)
    assert "/img" in paths


def test_a_report_runs_and_loads_nothing(
    make_record: Callable[..., BuildRecord], record: BuildRecord, asked: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, paths = asked
    evil = attacks(address)
    config = {**record.request.config, "metadata": {f"key{number}": text for number, text in enumerate(evil)}}
    checks = tuple(
        CheckReport(name=text, kind="parity", engine="none", values={}, limits={}, passed=None, reason=text)
        for text in evil
    )
    page = render_html(
        make_record(labels=tuple(evil), checks=checks, request=replace(record.request, config=config, recipe=evil[0]))
    )
    (tmp_path / "report.html").write_text(page)
    document = shown(tmp_path / "report.html", tmp_path)
    assert "data-ran" not in document.replace("dataset", "")
    assert "Provenance" in document
    assert paths == []


def test_a_front_draws_its_plot_and_loads_nothing(
    make_search: MakeSearch, asked: tuple[str, list[str]], tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    address, paths = asked
    evil = attacks(address)
    trials = [
        replace(trial(number, float(number), 50.0 - number), reason=text, arguments=(text,))
        for number, text in enumerate(evil, start=1)
    ]
    write_page(tmp_path / "front.html", evil[1], trials, trials[0], make_search())
    document = shown(tmp_path / "front.html", tmp_path)
    assert 'data-ran="yes"' not in document
    assert 'class="main-svg"' in document  # plotly's own script does run
    assert paths == []
