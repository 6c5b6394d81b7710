"""Against services over HTTP: nothing is believed without looking, and what was stored is never lost track of."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_cli.errors import ArchiveError, IngestError, ServiceUnavailable
from ingest_cli.jobs.job import Job
from ingest_cli.services.pacifica import catalog, http, writer
from ingest_cli.settings import load_settings

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.http_faults import PROXY_PAGE, answering, dropped, served_then_answering, served_then_dropped
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site


@pytest.fixture
def pacific(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("INGEST_SERVICE_TIMEOUT", "5")
    with PacificaSite() as server:
        site.settings = load_settings(
            environment={**os.environ, **server.environment(), "INGEST_DEFAULT_USER": "dmlb2001"}
        )
        yield server


def assert_stored(site: Site, pacific: PacificaSite, job: Job) -> None:
    assert job.is_done
    records = [record for record in pacific.transactions[job.job_id] if record["destinationTable"] == "Files"]
    names = ["/".join(filter(None, ["data", record["subdir"], record["name"]])) for record in records]
    assert dict(zip(names, (pacific.files[record["_id"]] for record in records), strict=True)) == FILES
    assert len(pacific.files) == len(FILES)
    assert len(pacific.transactions) == 1


def refuse_the_document(pacific: PacificaSite) -> None:
    for number in range(catalog.REFUSALS):
        pacific.fail("PUT", len(FILES) + 1 + number, answering(500, {"message": "Unknown project"}))


def ingest_half(site: Site, pacific: PacificaSite, folder: Path, fault: Callable[[Handler], bool]) -> Path:
    """A bundle of which the archive took the first file and failed at the second until no try was left."""
    for number in range(2, 2 + http.TRIES):
        pacific.fail("PUT", number, fault)
    bundle = write_bundle(folder / "b.tar")
    with pytest.raises(ServiceUnavailable):
        site.ingest(bundle)
    return bundle


def test_a_bundle_goes_to_all_four_services(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    assert_stored(site, pacific, site.ingest(write_bundle(tmp_path / "b.tar")))
    assert pacific.users == ["dmlb2001"]


def test_services_over_http_mix_with_embedded_ones(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    site.settings = load_settings(environment={**os.environ, "ARCHIVEINTERFACE_URL": pacific.url})
    site.ingest(write_bundle(tmp_path / "b.tar"))
    assert {pacific.files[row["id"]] for row in site.rows("Files")} == set(FILES.values())


@pytest.mark.sweep
@pytest.mark.parametrize("fault", [dropped, served_then_dropped, PROXY_PAGE, answering(503, {}), answering(429, {})])
@pytest.mark.parametrize(
    ("method", "number"), [("GET", 1), ("GET", 2), ("POST", 1), ("PUT", 1), ("PUT", 2), ("HEAD", 1)]
)
def test_one_fault_is_survived(
    site: Site, pacific: PacificaSite, tmp_path: Path, method: str, number: int, fault: Callable[[Handler], bool]
) -> None:
    pacific.fail(method, number, fault)
    assert_stored(site, pacific, site.ingest(write_bundle(tmp_path / "b.tar")))


def test_an_answer_lost_after_the_metadata_went_in(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.fail("PUT", len(FILES) + 1, served_then_dropped)
    assert_stored(site, pacific, site.ingest(write_bundle(tmp_path / "b.tar")))


@pytest.mark.parametrize("fault", [dropped, PROXY_PAGE])
def test_a_dead_archive_keeps_the_job_and_the_next_run_goes_on(
    site: Site, pacific: PacificaSite, tmp_path: Path, fault: Callable[[Handler], bool]
) -> None:
    bundle = ingest_half(site, pacific, tmp_path, fault)
    (job,) = site.jobs()
    assert (job.is_deferred, job.task) == (True, "ingest files")
    pacific.faults.clear()
    again = site.ingest(bundle)
    assert again.job_id == job.job_id
    assert_stored(site, pacific, again)


def test_a_dead_metadata_service_keeps_the_files(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    for number in range(len(FILES) + 1, len(FILES) + 1 + http.TRIES):
        pacific.fail("PUT", number, PROXY_PAGE)
    bundle = write_bundle(tmp_path / "b.tar")
    with pytest.raises(ServiceUnavailable):
        site.ingest(bundle)
    assert site.jobs()[0].task == "ingest metadata"
    pacific.faults.clear()
    sent = len(pacific.requests)
    assert_stored(site, pacific, site.ingest(bundle))
    puts = [path for method, path in pacific.requests[sent:] if method == "PUT"]
    assert puts == ["/ingest"], "what is known to be stored is not sent again"


def test_what_the_metadata_service_refuses_is_taken_back(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    refuse_the_document(pacific)
    with pytest.raises(IngestError, match="Unknown project"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert not pacific.files
    assert not pacific.transactions
    assert site.jobs()[0].task == "ingest metadata"


def test_what_cannot_be_taken_back_is_said(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    refuse_the_document(pacific)
    pacific.fail("DELETE", 1, answering(500, {"message": "no"}))
    with pytest.raises(IngestError):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert list(pacific.files) == [3]
    assert "could not be rolled back: file 3" in site.jobs()[0].exception


def test_an_archive_that_knows_us_no_more_has_not_deleted_anything(
    site: Site, pacific: PacificaSite, tmp_path: Path
) -> None:
    refuse_the_document(pacific)
    for number in range(1, 20):
        pacific.fail("DELETE", number, answering(401, {}))
        pacific.fail("HEAD", number + 1, answering(401, b""))
    with pytest.raises(IngestError):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert len(pacific.files) == len(FILES)
    (job,) = site.jobs()
    assert (job.state, job.is_deferred) == ("undoing", True)
    assert "rolled back later, since the archive at" in job.exception


def test_policy_refuses(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    refusal = {"message": "Precondition Failed: Invalid values for project"}
    pacific.fail("POST", 1, answering(412, refusal))
    with pytest.raises(IngestError, match="Invalid values for project"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert site.jobs()[0].task == "Policy Validation"
    assert not pacific.files


@pytest.mark.parametrize("content", [{"startIndex": -1, "endIndex": -3}, [], {"startIndex": "x"}, b"<html>"])
def test_ids_that_are_none(site: Site, pacific: PacificaSite, tmp_path: Path, content: object) -> None:
    pacific.fail("GET", 1, answering(200, content))
    with pytest.raises(ServiceUnavailable, match="did not return 1 id: 200"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert site.jobs() == []


def test_an_id_service_whose_database_is_locked(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.fail("GET", 1, answering(500, {"message": "database is locked"}))
    assert_stored(site, pacific, site.ingest(write_bundle(tmp_path / "b.tar")))


def test_an_archive_that_stores_less_than_was_sent(
    site: Site, pacific: PacificaSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CONFIRM_FROM_BYTES", 1)
    pacific.stores_less = {2}
    with pytest.raises(IngestError, match="holds 2,047 bytes of file 2, of 2,048 bytes"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert not pacific.files


def test_nothing_listens(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.shutdown()
    pacific.server_close()
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        site.ingest(write_bundle(tmp_path / "b.tar"))


def test_a_resumed_job_that_policy_then_refuses_is_taken_back(
    site: Site, pacific: PacificaSite, tmp_path: Path
) -> None:
    bundle = ingest_half(site, pacific, tmp_path, dropped)
    assert pacific.files
    pacific.faults = {("POST", 2): answering(412, {"message": "no longer"})}
    with pytest.raises(IngestError, match="no longer"):
        site.ingest(bundle)
    assert not pacific.files
    assert site.jobs()[0].state == "failed"


def test_what_the_archive_refuses_for_good_is_taken_back(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.fail("PUT", 2, answering(413, {"message": "Request Entity Too Large"}))
    with pytest.raises(ArchiveError, match="413: Request Entity Too Large") as caught:
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert caught.value.exit_code == 1
    assert [path for method, path in pacific.requests if method == "PUT"] == ["/1", "/2"]
    assert not pacific.files
    assert site.jobs()[0].state == "failed"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_answer_that_is_not_of_the_file_keeps_what_is_stored(
    site: Site, pacific: PacificaSite, tmp_path: Path, status: int
) -> None:
    bundle = ingest_half(site, pacific, tmp_path, answering(status, {}))
    assert list(pacific.files) == [1]
    assert site.jobs()[0].is_deferred
    pacific.faults.clear()
    again = site.ingest(bundle)
    assert again.job_id == 1
    assert_stored(site, pacific, again)


def test_a_policy_that_does_not_know_us_has_not_refused_the_bundle(
    site: Site, pacific: PacificaSite, tmp_path: Path
) -> None:
    pacific.fail("POST", 1, answering(401, {}))
    with pytest.raises(ServiceUnavailable, match="401"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    (job,) = site.jobs()
    assert (job.is_deferred, job.task) == (True, "Policy Validation")
    again = site.ingest(tmp_path / "b.tar")
    assert again.job_id == job.job_id
    assert_stored(site, pacific, again)


MANY = {f"data/{number}": bytes([number]) * number for number in range(40)}


@pytest.fixture
def four_transfers(site: Site, pacific: PacificaSite) -> None:
    pacific.seconds_a_file = 0.02
    environment = {**os.environ, **pacific.environment(), "ARCHIVEINTERFACE_TRANSFERS": "4"}
    site.settings = load_settings(environment=environment)


@pytest.mark.usefixtures("four_transfers")
def test_several_files_go_at_once(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.gather(4)
    job = site.ingest(write_bundle(tmp_path / "b.tar", MANY))
    assert job.is_done
    assert job.stored == len(MANY)
    assert pacific.files == dict(enumerate(MANY.values(), 1))
    assert pacific.most_at_work == 4


def test_files_go_one_after_the_other_unless_told(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.seconds_a_file = 0.005
    assert site.ingest(write_bundle(tmp_path / "b.tar", MANY)).is_done
    assert pacific.most_at_work == 1


@pytest.mark.usefixtures("four_transfers")
def test_a_failure_among_several_files_takes_all_back(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.gather(4)
    pacific.fail("PUT", 13, answering(413, {}))
    with pytest.raises(ArchiveError):
        site.ingest(write_bundle(tmp_path / "b.tar", MANY))
    assert pacific.most_at_work == 4
    sent = [path for method, path in pacific.requests if method == "PUT"]
    assert 12 < len(sent) < len(MANY), "after the failure no more are begun"
    assert not pacific.files
    assert not pacific.transactions
    assert site.jobs()[0].state == "failed"


@pytest.mark.usefixtures("four_transfers")
def test_an_outage_among_several_files_is_gone_on_from(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.gather(4)
    for number in range(13, 13 + 4 * http.TRIES):
        pacific.fail("PUT", number, PROXY_PAGE)
    bundle = write_bundle(tmp_path / "b.tar", MANY)
    with pytest.raises(ServiceUnavailable):
        site.ingest(bundle)
    assert pacific.most_at_work == 4
    assert len(pacific.files) >= 12
    pacific.faults.clear()
    again = site.ingest(bundle)
    assert (again.job_id, again.is_done) == (1, True)
    assert pacific.files == dict(enumerate(MANY.values(), 1))


def test_a_refused_file_leaves_no_part_behind(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    pacific.fail("PUT", 2, served_then_answering(413))
    with pytest.raises(ArchiveError, match="refuses"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert pacific.files == {}
    assert site.jobs()[0].state == "failed"


def test_a_refused_file_whose_part_cannot_be_deleted_is_named(
    site: Site, pacific: PacificaSite, tmp_path: Path
) -> None:
    pacific.fail("PUT", 1, served_then_answering(413))
    for number in range(1, 5):
        pacific.fail("DELETE", number, answering(403, {"message": "not you"}))
    with pytest.raises(ArchiveError):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    (job,) = site.jobs()
    assert job.state == "held"
    assert "could not be rolled back: file 1 " in job.exception
    pacific.faults.clear()
    assert_stored(site, pacific, site.ingest(tmp_path / "b.tar"))


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500, 502])
def test_only_a_word_on_the_document_is_a_refusal_of_it(
    site: Site, pacific: PacificaSite, tmp_path: Path, status: int
) -> None:
    for number in range(len(FILES) + 1, len(FILES) + 1 + http.TRIES):
        pacific.fail("PUT", number, answering(status, {}))
    with pytest.raises(IngestError) as caught:
        site.ingest(write_bundle(tmp_path / "b.tar"))
    final = status == 500
    assert caught.value.transient is not final
    assert bool(pacific.files) is not final
    pacific.faults.clear()
    if not final:
        assert_stored(site, pacific, site.ingest(tmp_path / "b.tar"))


@pytest.mark.usefixtures("four_transfers")
def test_a_file_whose_answer_was_lost_behind_a_failure_is_taken_back(
    site: Site, pacific: PacificaSite, tmp_path: Path
) -> None:
    lost = threading.Event()

    def fault(handler: Handler) -> bool:
        if handler.command != "PUT":
            return False
        if handler.path == "/1":
            handler.body()
            assert lost.wait(10)
            return answering(413, {})(handler)
        if handler.path == "/3":
            tries[0] += 1
            served_then_dropped(handler)
            if tries[0] == http.TRIES:
                lost.set()
            return True
        return False

    tries = [0]
    pacific.guard = fault
    with pytest.raises(ArchiveError):
        site.ingest(write_bundle(tmp_path / "b.tar", dict(list(MANY.items())[:4])))
    assert pacific.files == {}


@pytest.mark.sweep
@pytest.mark.parametrize("transfers", [1, 3])
def test_all_processes_together_send_no_more_at_once_than_the_site_says(
    command: Command, pacific: PacificaSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transfers: int
) -> None:
    """The released archive, under its own server, mixes up files that come at once, whoever sends them."""
    for variable, value in {**pacific.environment(), "ARCHIVEINTERFACE_TRANSFERS": str(transfers)}.items():
        monkeypatch.setenv(variable, value)
    pacific.seconds_a_file = 0.02
    # Who finds all places taken waits for one of them, though another may be free before.
    pacific.gather(transfers, patience=0.5)
    bundles = [
        write_bundle(tmp_path / f"{number}.tar", {f"data/{number}-{file}": bytes([number, file]) for file in range(10)})
        for number in range(6)
    ]
    assert command("--queue", *bundles).returncode == 0
    assert command("worker", "--workers", 3, "--until-empty").returncode == 0
    assert len(pacific.files) == 60
    assert pacific.most_at_work == transfers
