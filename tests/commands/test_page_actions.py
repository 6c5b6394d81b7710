"""What a visitor may do on the pages: retry, cancel and discard jobs; and who may not."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import requests

from ingest_cli.jobs.job import Job, JobKind, JobState
from ingest_cli.jobs.process import Process, this_process
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.settings import Settings, load_settings

from ..support.browser import CHROMIUM, Browser
from ..support.bundles import write_bundle
from ..support.serving import PATIENCE, Server, serving_apart

HTML = {"Accept": "text/html"}
AS_HEADER = "X-Http-Authed-User"
NOT_NOW = 600.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server, and the jobs of its site."""

    server: Server
    settings: Settings
    numbers: Iterator[int] = field(default_factory=lambda: count(100))

    @property
    def url(self) -> str:
        return self.server.url

    def failed(self, user: str = "") -> int:
        """A new job that has failed."""
        with open_store(self.settings) as store:
            job_id = self._submitted(store, user).job_id
            return store.end(job_id, JobState.FAILED, holder=None, reason="why").job_id

    def deferred(self) -> int:
        """A new job that no worker runs for some time."""
        with open_store(self.settings) as store:
            job = self._submitted(store, "", holder=this_process())
            store.defer(job.fence, "open tar", "not now", NOT_NOW)
            return job.job_id

    def state(self, job_id: int) -> JobState:
        with open_store(self.settings) as store:
            return store.get(job_id).state

    def _submitted(self, store: JobStore, user: str, holder: Process | None = None) -> Job:
        return store.submit(
            next(self.numbers),
            kind=JobKind.BUNDLE,
            source="/gone.tar",
            fingerprint="1:2:3",
            user=user or self.settings.user,
            holder=holder,
        )


@contextmanager
def served(folder: Path, **variables: str) -> Iterator[Served]:
    with serving_apart(folder, made=load_settings, **variables) as (server, settings):
        yield Served(server, settings)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One of which nothing is configured."""
    with served(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One whose users are named by a proxy, and of which curator may act on all jobs."""
    variables = {"INGEST_TRUSTED_PROXIES": "127.0.0.1", "INGEST_DEFAULT_USER": "anyone"}
    with served(tmp_path_factory.mktemp("proxied"), **variables, INGEST_ADMINISTRATORS="curator") as site:
        yield site


def token_for(site: Served, job_id: int, **headers: str) -> str:
    """The token of the forms on a job's page; empty where there are none."""
    answer = requests.get(f"{site.url}/jobs/{job_id}", headers={**HTML, **headers}, timeout=PATIENCE)
    found = re.search('name="token" value="([0-9a-f]+)"', answer.text)
    return "" if found is None else found[1]


def act(site: Served, job_id: int, action: str, token: str, **headers: str) -> requests.Response:
    given = {**HTML, "Origin": site.url, **headers}
    return requests.post(
        f"{site.url}/jobs/{job_id}/{action}",
        data={"token": token},
        headers=given,
        timeout=PATIENCE,
        allow_redirects=False,
    )


def test_a_visitor_at_the_machine_acts_on_jobs(site: Served, tmp_path: Path) -> None:
    job_id = site.server.upload(write_bundle(tmp_path / "b.tar", {}, []))["job_id"]
    site.server.settled(job_id)
    answer = act(site, job_id, "retry", token_for(site, job_id))
    assert (answer.status_code, answer.headers["Location"]) == (303, f"../{job_id}")
    assert site.server.settled(job_id)["state"] == "FAILED"
    assert act(site, job_id, "discard", token_for(site, job_id)).status_code == 303
    assert site.state(job_id) is JobState.DISCARDED
    assert token_for(site, job_id) == "", "there is nothing left to do"
    assert f"job {job_id}: discard by {site.settings.user}" in site.server.log.read_text()
    found = requests.get(f"{site.url}/jobs/{job_id}", headers=HTML, timeout=PATIENCE).text
    assert "It can be sent again, as a new job." in found


def test_a_job_that_waits_is_cancelled(site: Served) -> None:
    job_id = site.deferred()
    assert act(site, job_id, "cancel", token_for(site, job_id)).status_code == 303
    assert site.state(job_id) is JobState.DISCARDED
    assert f"job {job_id}: cancel by {site.settings.user}" in site.server.log.read_text()


def test_a_deferred_job_is_tried_again_at_once(site: Served) -> None:
    job_id = site.deferred()
    assert act(site, job_id, "retry", token_for(site, job_id)).status_code == 303
    site.server.settled(job_id)  # its bundle is gone, which is known only once a worker has looked


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("0" * 64, {}),
        ("é", {}),
        (None, {"Origin": "http://evil.example"}),
        (None, {"Origin": "http://localhost:1"}),
        (None, {"Origin": "null"}),
        (None, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
        (None, {"Content-Type": "text/plain"}),
        (None, {"X-Forwarded-For": "192.0.2.1"}),
        (None, {"Forwarded": "for=192.0.2.1"}),
    ],
)
def test_nobody_else_acts(site: Served, token: str | None, headers: dict[str, str]) -> None:
    job_id = site.failed()
    given = token_for(site, job_id) if token is None else token
    assert given or not token
    assert act(site, job_id, "retry", given, **headers).status_code in (403, 415)
    assert site.state(job_id) is JobState.FAILED


def test_a_job_of_someone_else_is_left_alone(site: Served) -> None:
    own, other = site.failed(), site.failed("somebody")
    assert token_for(site, other) == ""
    found = requests.get(f"{site.url}/jobs/{other}", headers=HTML, timeout=PATIENCE).text
    assert f"You cannot retry or discard it: job {other} was not submitted by you." in found
    assert act(site, other, "retry", token_for(site, own)).status_code == 403
    assert act(site, 10**9, "retry", token_for(site, own)).status_code == 404
    assert site.state(other) is JobState.FAILED


@pytest.mark.parametrize(
    ("user", "own", "others"),
    [("ann", True, False), ("curator", True, True), ("bob", False, False), ("", False, False)],
)
def test_users_act_on_their_own_jobs_and_administrators_on_all(
    proxied: Served, user: str, *, own: bool, others: bool
) -> None:
    headers = {AS_HEADER: user, "X-Forwarded-For": "192.0.2.1"}
    jobs = proxied.failed("ann"), proxied.failed("anyone")
    assert [token_for(proxied, job_id, **headers) != "" for job_id in jobs] == [own, others]


def test_a_proxy_may_have_a_port_of_its_own(proxied: Served) -> None:
    job_id = proxied.failed("ann")
    headers = {AS_HEADER: "ann", "Host": "localhost"}
    token = token_for(proxied, job_id, **headers)
    assert act(proxied, job_id, "retry", token, **headers, Origin="http://evil.example").status_code == 403
    assert act(proxied, job_id, "retry", token, **headers, Origin="http://localhost:8443").status_code == 303


def test_the_token_of_one_is_none_for_another(proxied: Served) -> None:
    one, other = proxied.failed("ann"), proxied.failed("ann")
    token = token_for(proxied, one, **{AS_HEADER: "ann"})
    assert act(proxied, one, "retry", token, **{AS_HEADER: "curator"}).status_code == 403
    assert act(proxied, other, "retry", token, **{AS_HEADER: "ann"}).status_code == 403


@pytest.mark.sweep
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("script", [True, False])
def test_a_job_is_discarded_by_the_keyboard(site: Served, *, script: bool) -> None:
    job_id = site.failed()
    with Browser() as browser:
        page = browser.page(script=script)
        page.go(f"{site.url}/jobs/{job_id}")
        for _ in range(30):
            page.press("Tab")
            if page.value("document.activeElement.textContent") == "Discard this job":
                break
        page.press("Enter")
        page.press("Tab")
        assert page.value("document.activeElement.textContent") == "Discard"
        page.press("Enter")
        page.until("document.querySelector('h1')?.textContent.includes('discarded')")
        assert page.value("location.pathname") == f"/jobs/{job_id}"
        assert page.complaints == []
    assert site.state(job_id) is JobState.DISCARDED
