"""What a client is told of a job that will be tried again, and what becomes of what it sends again all the same."""

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.pipeline.observer import Observer
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.base import Services
from ingest_cli.services.factory import connect
from ingest_cli.settings import Timings, load_settings

from ..support.bundles import FILES, file_record, transaction, write_bundle
from ..support.command import Command
from ..support.http_faults import answering
from ..support.pacifica_double import Handler, PacificaSite
from ..support.serving import PATIENCE, Server
from ..support.shown import is_stored
from ..support.site import Site
from ..support.waiting import until

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
LATER = rf"it will be tried again at {TIME}(, or as soon as a worker is free)?; do not send it again"
SERVICES = {"policy": "Policy Validation", "archive": "ingest files", "metadata service": "ingest metadata"}


@pytest.fixture
def pacific(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    with PacificaSite() as site:
        for variable, value in site.environment().items():
            monkeypatch.setenv(variable, value)
        yield site


def unknown(*, is_of: Callable[[Handler], bool]) -> Callable[[Handler], bool]:
    """The service is not where it was: a proxy says so in its place."""

    def fault(handler: Handler) -> bool:
        return is_of(handler) and answering(404, b"<html>")(handler)

    return fault


OUTAGES = {
    "policy": unknown(is_of=lambda handler: handler.path == "/policy"),
    "archive": unknown(is_of=lambda handler: handler.command == "PUT" and handler.path != "/ingest"),
    "metadata service": unknown(is_of=lambda handler: handler.command == "PUT" and handler.path == "/ingest"),
}


def assert_told(state: dict[str, Any], service: str) -> None:
    """It failed there, for now."""
    assert (state["state"], state["task"], state["task_percent"]) == ("FAILED", SERVICES[service], "0.00000")
    assert state["complete"] is False
    why, *_, when = state["exception"].split("\n")
    assert service in why
    assert re.fullmatch(LATER, when)


def assert_stored_once(pacific: PacificaSite, states: list[dict[str, Any]]) -> None:
    (recorded,) = pacific.transactions
    assert sorted(pacific.files.values()) == sorted(FILES.values())
    for state in states:
        other = state["job_id"] != recorded
        assert is_stored(state) or (other and state["complete"]), state
        assert (f"job {recorded}" in state["exception"]) is other, "who asks for it is told which job it is"


@pytest.mark.sweep
@pytest.mark.parametrize("service", SERVICES)
def test_a_bundle_that_is_uploaded_again_while_it_is_deferred_is_stored_once(
    environment: Path, pacific: PacificaSite, command: Command, tmp_path: Path, service: str
) -> None:
    pacific.guard = OUTAGES[service]
    bundle = write_bundle(tmp_path / "b.tar")
    with Server(environment) as server:
        jobs = [server.upload(bundle)["job_id"] for _ in range(2)]
        assert_told(server.settled(jobs[0]), service) if service == "policy" else server.settled(jobs[0])
        assert_told(server.settled(jobs[1]), service)
        (shown, _) = requests.get(f"{server.url}/jobs", timeout=PATIENCE).json()
        assert f"at {shown['retried_at']} UTC" in shown["exception"]
        pacific.guard = None
        assert command("retry", *jobs).returncode in (0, 3)
        assert_stored_once(pacific, [server.settled(job_id) for job_id in jobs])
        again = server.settled(server.upload(bundle)["job_id"])
        assert again["exception"] == f"the same bundle was ingested before as job {next(iter(pacific.transactions))}"
        assert_stored_once(pacific, [again])


@pytest.mark.parametrize("service", ["policy", "archive"])
def test_a_bundle_that_is_given_again_while_it_is_deferred_is_stored_once(
    pacific: PacificaSite, command: Command, tmp_path: Path, service: str
) -> None:
    pacific.guard = OUTAGES[service]
    bundle = write_bundle(tmp_path / "b.tar")
    for _ in range(2):
        assert command(bundle).returncode == 4
    state = json.loads(command("state", 1, "--json").stdout)
    assert_told(state, service)
    shown = command("state", 1).stdout
    assert "deferred: it is retried at" in shown
    assert "tried again" not in shown, "it says so once"
    pacific.guard = None
    copy = write_bundle(tmp_path / "copy.tar")
    assert command(copy, bundle).returncode in (0, 3)
    assert_stored_once(pacific, json.loads(command("state", "--json").stdout))


class Sender:
    """Sends one bundle again and again, as uploads come, and has a worker take the job that is next."""

    def __init__(self, site: Site, folder: Path) -> None:
        at_once = replace(load_settings(), timings=Timings(first_backoff=0.0))
        self._site, self._folder, self._settings = site, folder, at_once
        self.sent = 0

    def send(self) -> None:
        self.sent += 1
        path = write_bundle(self._folder / f"{self.sent}.tar")
        with self._open() as (store, services):
            submit(store, services.unique_id, JobKind.BUNDLE, path, user="u", spooled=True)

    def work(self) -> bool:
        with self._open() as (store, services):
            runner = Runner(self._settings, services, store)
            job = runner.lease_next()
            if job is not None:
                runner.run_leased(job, Observer())
            return job is not None

    def states(self) -> list[dict[str, Any]]:
        return [job.as_state() for job in self._site.jobs()]

    @contextmanager
    def _open(self) -> Iterator[tuple[JobStore, Services]]:
        with open_store(self._settings) as store, connect(self._settings, store) as services:
            yield store, services


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(3, 50))])
def test_whatever_is_down_and_however_often_it_is_sent_again_it_is_stored_once(
    pacific: PacificaSite, site: Site, tmp_path: Path, seed: int
) -> None:
    chance, sender = random.Random(seed), Sender(site, tmp_path)
    sender.send()
    for _ in range(12):
        pacific.guard = chance.choice([None, *OUTAGES.values()])
        chance.choice([sender.send, sender.work, sender.work])()
        for state in sender.states():
            told = state["exception"].endswith("do not send it again")
            assert told is (state["state"] == "FAILED" and not state["complete"]), state
    pacific.guard = None
    until(lambda: not sender.work())
    assert len(sender.states()) == sender.sent
    assert_ended(sender.states())
    assert sorted(pacific.files.values()) == sorted(FILES.values())


def assert_ended(states: list[dict[str, Any]]) -> None:
    """One recorded the bundle, and from each of the others one is led to it by the jobs that are named."""
    others = {state["job_id"]: re.search(r"job (\d+)", state["exception"]) for state in states}
    (recorded,) = [job_id for job_id, other in others.items() if other is None]
    assert is_stored(next(state for state in states if state["job_id"] == recorded))
    for state in states:
        assert state["complete"], state
        job_id, passed = state["job_id"], 0
        while (other := others[job_id]) is not None and passed < len(states):
            job_id, passed = int(other[1]), passed + 1
        assert job_id == recorded, state


@pytest.mark.sweep
@pytest.mark.parametrize("service", SERVICES)
def test_with_no_retries_failed_is_failed(
    environment: Path, pacific: PacificaSite, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setenv("INGEST_RETRIES", "0")
    pacific.guard = OUTAGES[service]
    bundle = write_bundle(tmp_path / "b.tar")
    with Server(environment) as server:
        states = [server.settled(server.upload(bundle)["job_id"]) for _ in range(2)]
        until(lambda: all(job.state == "failed" for job in site.jobs()))
        assert pacific.files == {}, "nothing of them is left in the archive"
        pacific.guard = None
        stored = server.settled(server.upload(bundle)["job_id"])
    for state in states:
        assert (state["state"], state["task"]) == ("FAILED", SERVICES[service])
        assert "tried again" not in state["exception"]
    assert_stored_once(pacific, [stored])


def test_with_no_retries_what_passes_on_this_machine_is_not_waited_for_either(
    site: Site, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_RETRIES", "0")
    assert command(write_bundle(tmp_path / "before.tar", {"data/before": b"x"})).returncode == 0
    away = site.archive.rename(tmp_path / "away")
    bundle = write_bundle(tmp_path / "b.tar")
    assert command(bundle).returncode == 4
    job = site.job(2)
    assert (job.state, job.task) == ("failed", "ingest files"), job.exception
    away.rename(site.archive)
    assert command(bundle).returncode == 0
    assert site.contents() == {**FILES, "data/before": b"x"}


def test_with_no_retries_nothing_is_called_deferred_though_it_is_rolled_back_later(
    pacific: PacificaSite, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_RETRIES", "0")
    pacific.guard = unknown(is_of=lambda handler: handler.path.startswith(("/ingest", "/transactions")))
    done = command(write_bundle(tmp_path / "b.tar"))
    assert "job 1 failed at 'ingest metadata'" in done.stderr
    assert "deferred" not in done.stderr
    assert "rolled back later" in done.stderr


def test_a_run_that_was_cut_off_is_resumed_though_nothing_is_retried(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_RETRIES", "0")
    site.settings = load_settings()
    bundle = write_bundle(tmp_path / "b.tar")
    with open_store(site.settings) as store, connect(site.settings, store) as services:
        submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u")
        for _ in range(3):
            leased = store.lease_next()
            assert leased is not None
            store.requeue(leased.fence)
        leased = store.lease_next()
        assert leased is not None
        assert Runner(site.settings, services, store).run_leased(leased, Observer()).is_done


def test_a_document_to_move_that_is_sent_again_moves_nothing(environment: Path, tmp_path: Path) -> None:
    source = tmp_path / "in" / "x"
    source.parent.mkdir()
    document = json.dumps([*transaction(), file_record("data/x", b"x", source=str(source))])
    with Server(environment, "--move-from", source.parent) as server:
        for _ in range(2):
            source.write_bytes(b"x")
            headers = {"Content-Type": "application/json"}
            answer = requests.post(f"{server.url}/move", data=document, headers=headers, timeout=PATIENCE)
            state = server.settled(answer.json()["job_id"])
            assert is_stored(state)
    assert state["exception"] == "the same document was ingested before as job 1; its sources are left where they are"
    assert source.read_bytes() == b"x"
