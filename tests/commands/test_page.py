"""The pages for browsers: as HTML without a script, and driven in a real browser."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.settings import load_settings

from ..support.browser import CHROMIUM, Browser
from ..support.bundles import FILES, document_for, write_bundle
from ..support.command import Command
from ..support.loopback import lasting_port
from ..support.serving import PATIENCE, Server, serving_apart
from ..support.waiting import until

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
JOBS = 60
NAMED = ("link", "button", "textbox", "searchbox", "checkbox", "image", "img", "progressbar", "navigation", "region")
IS_LIVE = "document.getElementById('live').textContent === 'Live'"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


def add(store: JobStore, job_id: int, *, user: str = "eve", failed: bool = False, source: str = "") -> None:
    """A job that has come to its end."""
    source = source or f"/data/run-{job_id}.tar"
    kept = {"kind": JobKind.BUNDLE, "source": source, "fingerprint": "1:2:3", "user": user}
    job = store.submit(job_id, holder=None if failed else this_process(), **kept)  # type: ignore[arg-type]
    if failed:
        store.end(job_id, JobState.FAILED, holder=None, reason=f"reason {job_id}\nand more of it")
    else:
        store.identify(job.fence, f"digest {job_id}", 3, 4567)
        store.record(job.fence)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with many jobs, of which every tenth has failed, and every second is another user's."""
    folder = tmp_path_factory.mktemp("many")

    def fill() -> None:
        with open_store(load_settings()) as store:
            for number in range(1, JOBS + 1):
                add(store, number, user="adam" if number % 2 else "eve", failed=number % 10 == 0)

    with serving_apart(folder, made=fill) as (server, _):
        yield server


def page(server: Server, path: str = "/", status: int = 200) -> str:
    answer = requests.get(server.url + path, headers=HTML, timeout=PATIENCE)
    assert answer.status_code == status, answer.text
    return answer.text


def listed(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr id="job-(\d+)"', page)]


def test_browsers_get_a_page_and_programs_do_not(many: Server) -> None:
    for path in ("/", "/jobs/1"):
        found = requests.get(many.url + path, headers=HTML, timeout=PATIENCE)
        assert found.headers["Content-Type"].startswith("text/html")
        assert "Accept" in found.headers["Vary"]
        policy = found.headers["Content-Security-Policy"]
        for tag in ("script", "style"):
            (allowed,) = re.findall(rf"{tag}-src ([^;]*)", policy)
            for content in re.findall(rf"<{tag}>(.*?)</{tag}>", found.text, re.S):
                assert f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in allowed
            assert "unsafe" not in allowed
        assert not re.search(r"\ssrc=|url\(|@import|\w://", found.text), "it loads nothing from elsewhere"
        for accept in ("*/*", "application/json"):
            answer = requests.get(many.url + path, headers={"Accept": accept}, timeout=PATIENCE)
            assert answer.headers["Content-Type"] == "application/json"


def test_an_address_of_nothing(many: Server) -> None:
    found = page(many, "/nowhere/at/all", 404)
    assert "There is nothing at this address" in found
    assert 'href="../../"' in found
    answer = requests.get(many.url + "/nowhere", timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/json")


def test_the_list_shows_what_each_job_is(many: Server) -> None:
    found = page(many)
    (row,) = re.findall(r'<tr id="job-59".*?</tr>', found, re.S)
    for what in ("complete", "/data/", "run-59.tar", "adam", "4.6 kB", ">3<"):
        assert what in row
    (failed,) = re.findall(r'<tr id="job-60".*?</tr>', found, re.S)
    assert "reason 60" in failed
    assert "and more of it" not in failed


def test_counts_lead_to_what_they_count(many: Server) -> None:
    found = page(many)
    (way, count) = re.findall(r'href="([^"]*state=failed[^"]*)"><b>(\d+)</b>', found)[0]
    assert int(count) == JOBS // 10
    assert listed(page(many, f"/{way.removeprefix('./')}")) == list(range(JOBS, 0, -10))


def test_failures_stand_first_with_their_reasons(many: Server) -> None:
    (pinned,) = re.findall(r'<section id="failures".*?</section>', page(many), re.S)
    assert re.findall(r"reason (\d+)", pinned) == ["60", "50", "40", "30", "20"]
    assert "All 6 failed jobs" in pinned
    assert 'id="failures"' not in page(many, "/?state=complete")


def test_failures_are_grouped_by_their_reasons(many: Server) -> None:
    (reasons,) = re.findall(r'<section [^>]*id="reasons".*?</section>', page(many, "/?state=failed"), re.S)
    (row,) = re.findall(r"<tr><td.*?</tr>", reasons)
    assert re.findall(r">([^<>]+)<", row)[:2] == ["6", "reason ..."]
    assert re.findall(r"jobs/(\d+)", row) == ["60", "50", "40", "30", "20"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("name=run-1%3F.tar&group=failed", [10]),
        ("name=run-5", [59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 5]),
        ("name=run-1?.tar", list(range(19, 9, -1))),
        ("name=run-1%3F.tar&user=eve", [18, 16, 14, 12, 10]),
        ("name=run-1%3F.tar&user=eve&state=failed", [10]),
        ("user=nobody", []),
    ],
)
def test_a_search(many: Server, query: str, found: list[int]) -> None:
    assert listed(page(many, f"/?{query}")) == found


def test_pages_lead_to_the_first_job(many: Server) -> None:
    seen, path = [], "/"
    while True:
        found = page(many, path)
        seen += listed(found)
        older = re.search(r'<a href="([^"]*)" rel="next"', found)
        if older is None:
            break
        path = "/" + older[1].removeprefix("./")
    assert seen == list(range(JOBS, 0, -1))


def test_the_last_day_is_drawn(many: Server) -> None:
    (drawn,) = re.findall(r'<section id="plots".*?</section>', page(many), re.S)
    assert f'aria-label="Jobs ended, by half hours: {JOBS - JOBS // 10} jobs complete, {JOBS // 10} failed"' in drawn
    assert 'aria-label="Queue, by half hours: 0 jobs now' in drawn
    assert "<rect" in drawn
    assert 'id="plots"' not in page(many, "/?state=failed")


def test_a_job_has_a_page_of_its_own(many: Server) -> None:
    found = page(many, "/jobs/60")
    assert "<title>Job 60: failed - ingest</title>" in found
    assert "reason 60\nand more of it" in found
    assert 'href="../"' in found
    for given in ("9999", "x", "-1", "99999999999999999999"):
        found = page(many, f"/jobs/{given}", 404)
        assert "there is no job" in found.lower()
        assert "sqlite" not in found, "where the store is concerns no visitor"


def test_the_page_of_a_job_shows_its_stages_and_files(
    environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")
    with Server(environment) as server:
        job_id = server.upload(write_bundle(tmp_path / "b.tar"))["job_id"]
        server.settled(job_id)
        found = page(server, f"/jobs/{job_id}")
        assert "ingest files</th>" in found
        (log,) = re.findall(r'<table class="log">.*?</table>', found)
        assert re.fullmatch("submitted by .+, complete", ", ".join(re.findall(r"<td>([^<]*)</td>", log)))
        for name in FILES:
            (way,) = re.findall(rf'href="\.\./([^"]*)">{name}</a>', found)
            answer = requests.get(f"{server.url}/{way}", timeout=PATIENCE)
            assert answer.content == FILES[name]


def test_an_upload_is_known_by_its_files_name(environment: Path, tmp_path: Path, command: Command) -> None:
    with Server(environment) as server:
        server.upload(write_bundle(tmp_path / "a.tar"), **{"Content-Disposition": "attachment; filename=first.tar"})
        done = command("upload", "--to", server.url, write_bundle(tmp_path / "second.tar", {"data/x": b"x"}))
        assert done.returncode == 0, done.stderr
        found = page(server)
    assert re.findall("<b>([a-z]+.tar)</b>", found) == ["second.tar", "first.tar"]


@needs_chromium
def test_jobs_in_a_browser(environment: Path, tmp_path: Path) -> None:
    """On a phone, in the dark: rows appear and change by themselves, and nothing that others wrote runs."""
    files = {f"data/{HOSTILE.replace('/', '')}": b"x"}
    hostile = write_bundle(tmp_path / "hostile.tar", {}, document_for(files))
    with Server(environment) as server, Browser() as browser:
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
        shown = browser.page(width=375, height=800, dark=True)
        shown.go(server.url)
        shown.until(IS_LIVE)
        job_id = server.upload(hostile)["job_id"]
        shown.until(f"document.querySelector('#job-{job_id} .badge')?.textContent === 'failed'")
        shown.until("document.getElementById('failures').textContent.includes('onerror')")
        shown.until("document.querySelector('#counts [data-state=failed] b').textContent === '1'")
        assert shown.value("document.documentElement.scrollWidth <= innerWidth"), "it needs no sideways scrolling"
        shown.value(f"document.querySelector('#job-{job_id} a').click()")
        shown.until("document.querySelector('pre')?.textContent.includes('onerror')")
        assert shown.value("document.title").startswith(f"Job {job_id}: failed")
        assert shown.complaints == []


@pytest.mark.sweep
@needs_chromium
@pytest.mark.parametrize("path", ["/", "/?state=failed&name=run", "/?user=nobody", "/jobs/60", "/jobs/1", "/jobs/999"])
def test_a_page_is_for_everybody(many: Server, path: str) -> None:
    """What can be chosen has a name for those who only hear it, and a phone needs no sideways scrolling."""
    with Browser() as browser:
        for width, dark in ((1280, False), (375, False), (375, True)):
            shown = browser.page(width=width, dark=dark)
            shown.go(many.url + path)
            nodes = [node for node in shown.ask("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
            nameless = [node for node in nodes if node["role"]["value"] in NAMED and not node["name"]["value"]]
            assert nameless == []
            roles = [node["role"]["value"] for node in nodes]
            assert roles.count("main") == 1
            assert shown.value("document.querySelectorAll('h1').length") == 1
            assert shown.value("document.documentElement.scrollWidth <= innerWidth")
            assert shown.violations() == []


@pytest.mark.sweep
@needs_chromium
def test_a_search_without_a_script(many: Server) -> None:
    with Browser() as browser:
        shown = browser.page(script=False)
        shown.go(f"{many.url}/?state=complete")
        shown.value("document.querySelector('input[name=name]').value = 'run-5'")
        shown.value("document.querySelector('form[role=search]').requestSubmit()")
        shown.until("location.search.includes('name=run-5')")
        shown.until("document.querySelectorAll('tbody#jobs tr').length === 10")
        assert not shown.value("document.getElementById('live').textContent")
        assert shown.complaints == []


@pytest.mark.sweep
@needs_chromium
def test_a_page_that_nobody_sees_is_not_kept_up_to_date(environment: Path, tmp_path: Path) -> None:
    """A browser has few connections to a server. Who comes back sees what has happened meanwhile."""
    with Server(environment) as server, Browser() as browser:
        shown = browser.page()
        shown.go(server.url)
        shown.until(IS_LIVE)
        shown.value("Object.defineProperty(document, 'hidden', { configurable: true, value: true })")
        shown.value("document.dispatchEvent(new Event('visibilitychange'))")
        until(lambda: " GET /live 200 " in server.log.read_text())  # which is written at its end
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
        assert shown.value("document.querySelectorAll('tbody#jobs tr').length") == 0
        shown.value("Object.defineProperty(document, 'hidden', { configurable: true, value: false })")
        shown.value("document.dispatchEvent(new Event('visibilitychange'))")
        shown.until("document.querySelector('#job-1 .badge')?.textContent === 'complete'")


@pytest.mark.sweep
@needs_chromium
def test_a_page_outlives_the_server(environment: Path, tmp_path: Path) -> None:
    with Server(environment, port=lasting_port()) as server, Browser() as browser:
        shown = browser.page()
        shown.go(server.url)
        shown.until(IS_LIVE)
        server.kill()
        shown.until("document.getElementById('live').textContent.startsWith('Out of date')")
        with Server(environment, port=server.port) as again:
            shown.until(IS_LIVE)
            again.upload(write_bundle(tmp_path / "b.tar"))
            shown.until("document.querySelector('#job-1 .badge')?.textContent === 'complete'")
