"""A site moves from the released Pacifica Ingest to this program, with jobs in flight."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ..support.bundles import file_record, transaction, write_bundle
from ..support.command import Command
from ..support.old_names import serving
from ..support.receiver import Receiver
from ..support.serving import OCTETS
from ..support.waiting import PATIENCE, until
from .services import PacificaServices, assert_stored

pytestmark = pytest.mark.pacifica


@pytest.fixture
def listener() -> Iterator[Receiver]:
    """Who is told of each recorded transaction, by the metadata service."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def released(pacifica: PacificaServices, listener: Receiver) -> Iterator[PacificaServices]:
    """The released services, with an ingest service that the test ends."""
    if not pacifica.has_ingest:
        pytest.skip("the released Pacifica Ingest is not installed in the folder of INGEST_TEST_PACIFICA")
    pacifica.stop("metadata")
    pacifica.start("metadata", notifications=listener.url)
    pacifica.start_ingest()
    yield pacifica
    for name in ("ingest", "worker", "metadata"):
        if pacifica.is_running(name):
            pacifica.stop(name)
    pacifica.start("metadata")


def upload(url: str, bundle: Path) -> int:
    answer = requests.post(f"{url}/upload", data=bundle.read_bytes(), headers=OCTETS, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    job_id: int = answer.json()["job_id"]
    return job_id


def state_of(url: str, job_id: int) -> dict[str, Any]:
    answer = requests.get(f"{url}/get_state", params={"job_id": job_id}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    state: dict[str, Any] = answer.json()
    return state


def ended(url: str, job_id: int) -> dict[str, Any]:
    """The state of a job that a client has waited for."""
    done = [("OK", "ingest metadata", 100)]
    until(lambda: (state := state_of(url, job_id))["state"] != "OK" or _place(state) in done, every=0.1)
    return state_of(url, job_id)


def _place(state: dict[str, Any]) -> tuple[str, str, int]:
    return state["state"], state["task"], int(float(state["task_percent"]))


def test_with_jobs_in_flight(
    released: PacificaServices, listener: Receiver, command: Command, environment: Path, tmp_path: Path
) -> None:
    config, url, port = tmp_path / "config.ini", released.url("ingest"), released.ports["ingest"]
    places = f"[database]\npeewee_url = {released.jobs}\npath = {tmp_path / 'jobs.sqlite3'}\n"
    config.write_text(f"{places}[notifications]\nurl = {listener.url}\n")

    def importing() -> dict[str, int]:
        done = command("import-jobs", "--config", config, config, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, int] = json.loads(done.stdout)
        return answer

    good = {"data/good": b"good"}
    complete = upload(url, write_bundle(tmp_path / "good.tar", good))
    wrong = [*transaction(), file_record("data/a", b"other")]
    failed = upload(url, write_bundle(tmp_path / "wrong.tar", {"data/a": b"a"}, wrong))
    refused = upload(url, write_bundle(tmp_path / "refused.tar", {}, document=transaction("none")))
    moved = [*transaction(), file_record("data/a", b"a", source="/nowhere")]
    missing: int = requests.post(f"{url}/move", json=moved, timeout=PATIENCE).json()["job_id"]
    before = {job_id: ended(url, job_id) for job_id in (complete, failed, refused, missing)}
    assert [state["task"] for state in before.values()] == [
        "ingest metadata",
        "ingest files",
        "Policy Validation",
        "move files",
    ]
    assert "Traceback" in before[missing]["exception"]
    slow = {"data/slow": b"slow"}
    with released.frozen("archiveinterface"):
        flying = upload(url, write_bundle(tmp_path / "slow.tar", slow))
        until(lambda: state_of(url, flying)["task"] == "ingest files", every=0.1)
        first = importing()
        assert (first["new"], first["unfinished"], first["last_id"]) == (5, 1, flying)
        before[flying] = state_of(url, flying)
        released.stop("ingest")
        # The old worker is still at it. Nobody who asks for a job can tell that another program answers.
        with serving(tmp_path, "-c", config, "-p", port, "-a", "127.0.0.1") as (ours, _):
            assert ours == url
            assert {job_id: state_of(url, job_id) for job_id in before} == before
    until(
        lambda: (
            released.state(flying)["state"] != "OK" or _place(released.state(flying))[1:] == ("ingest metadata", 100)
        )
    )
    released.stop("worker")
    with serving(tmp_path, "-c", config, "-p", port, "-a", "127.0.0.1"):
        last = importing()
        assert (last["changed"], last["unchanged"], last["unfinished"]) == (1, 4, 0), "while it serves"
        assert _place(ended(url, flying)) == ("OK", "ingest metadata", 100)
        assert {job_id: state_of(url, job_id) for job_id in before} == {
            job_id: released.state(job_id) for job_id in before
        }
        new = {"data/new": b"new"}
        job_id = upload(url, write_bundle(tmp_path / "new.tar", new))
        assert _place(ended(url, job_id)) == ("OK", "ingest metadata", 100)
    assert job_id > max(before)
    for number, files in ((complete, good), (flying, slow), (job_id, new)):
        assert_stored(released, number, files)
    shown = json.loads(command("state", "--config", config, "--json").stdout)
    assert [job["job_id"] for job in shown] == [job_id]
    told = sorted(number for number in listener.ids() if number.startswith("metadata.ingest."))
    assert told == sorted(f"metadata.ingest.{number}" for number in (complete, flying, job_id)), "each of them once"
