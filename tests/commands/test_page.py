"""The page for browsers, driven in a real one."""

import hashlib
import re
import shutil
from base64 import b64encode
from pathlib import Path

import pytest
import requests

from ..support.bundles import FILES, document_for, write_bundle
from ..support.serving import PATIENCE, Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


def test_browsers_get_a_page_and_clients_do_not(environment: Path) -> None:
    with Server(environment) as server:
        page = requests.get(server.url, headers=HTML, timeout=PATIENCE)
        assert page.headers["Content-Type"].startswith("text/html")
        assert "Accept" in page.headers["Vary"]
        for accept in ("*/*", "application/json"):
            answer = requests.get(server.url, headers={"Accept": accept}, timeout=PATIENCE)
            assert answer.headers["Content-Type"] == "application/json"
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|//\w", page.text), "it loads nothing from elsewhere"
    assert "innerHTML" not in page.text
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.S)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.headers["Content-Security-Policy"]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_jobs_in_a_browser(environment: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    files = {f"data/{HOSTILE.replace('/', '')}": b"x"}
    hostile = write_bundle(tmp_path / "hostile.tar", {}, document_for(files))
    with Server(environment) as server, playwright.sync_playwright() as driver:
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
        server.settled(server.upload(hostile)["job_id"])
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url)
        page.get_by_text("2 jobs, newest first, 0 running").wait_for()
        assert page.locator("li").count() == 2
        page.get_by_text("failed").click()
        page.locator("pre").get_by_text("onerror").wait_for()
        page.get_by_text("complete").click()
        page.get_by_text(f"{len(FILES)} of {len(FILES)} stored").wait_for()
        server.upload(write_bundle(tmp_path / "c.tar", {"data/new": b"new"}))
        page.get_by_text("3 jobs, newest first").wait_for()
        assert page.title() == "ingest: jobs"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            "a phone needs no sideways scrolling"
        )
        assert [text for text in complaints if "favicon" not in text] == []
        browser.close()
