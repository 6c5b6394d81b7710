"""Against the real, released Pacifica services: what ends there, and what is left after a failure."""

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.settings import load_settings

from ..support.bundles import FILES, cleaned, document_for, file_record, members, transaction, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.serving import Server
from ..support.shown import is_stored
from ..support.site import Site
from ..support.waiting import until
from .services import LosingAnswers, PacificaServices, ask, assert_stored

pytestmark = pytest.mark.pacifica


@pytest.fixture
def before(pacifica: PacificaServices) -> set[str]:
    return archived(pacifica)


def archived(services: PacificaServices) -> set[str]:
    return {str(path.relative_to(services.archive)) for path in services.archive.rglob("*") if path.is_file()}


def state(command: Command, job_id: int | None = None) -> dict[str, Any]:
    newest: list[dict[str, Any]] = json.loads(command("state", "--json").stdout)
    return next(job for job in newest if job_id in (None, job["job_id"]))


@pytest.mark.parametrize("count", [3, 1000])
def test_a_good_bundle(
    pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str], count: int
) -> None:
    files = {f"data/{number % 7}/{number}": os.urandom(100 + number) for number in range(count)}
    done = command(write_bundle(tmp_path / "b.tar", files))
    assert done.returncode == 0, done.stderr
    assert_stored(pacifica, state(command)["job_id"], files)
    assert len(archived(pacifica)) == len(before) + count


def test_uploads_at_once_get_ids_of_a_database_for_one(
    pacifica: PacificaServices, environment: Path, tmp_path: Path, before: set[str]
) -> None:
    bundles = [write_bundle(tmp_path / f"{n}.tar", {"data/x": os.urandom(99)}) for n in range(12)]
    with Server(environment, "--workers", 2) as one, Server(environment) as another, ThreadPoolExecutor(6) as pool:
        servers = (one, another) * 6
        uploads = [pool.submit(server.upload, bundle) for server, bundle in zip(servers, bundles, strict=True)]
        job_ids = [upload.result()["job_id"] for upload in uploads]
        assert len(set(job_ids)) == len(bundles)
        assert all(is_stored(one.settled(job_id)) for job_id in job_ids)
    assert len(archived(pacifica)) == len(before) + len(bundles)


@pytest.mark.parametrize(
    ("changes", "project", "stage"),
    [
        ({}, "nonesuch", "Policy Validation"),
        ({"hashsum": "0" * 40}, "1234a", "ingest files"),
        ({"hashsum": "deadbeef"}, "1234a", "ingest files"),
        ({"name": "x" * 256}, "1234a", "ingest metadata"),
        ({"mtime": "no time"}, "1234a", "ingest metadata"),
        ({"mimetype": "bad"}, "1234a", "ingest metadata"),
    ],
)
def test_a_bad_bundle_ends_where_pacificas_does_and_leaves_nothing(
    pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str], changes: dict[str, Any],
    project: str, stage: str,
) -> None:  # fmt: skip
    record = file_record("data/x", b"x", **changes)
    bundle = write_bundle(tmp_path / "b.tar", {f"data/{record['name']}": b"x"}, [*transaction(project), record])
    assert command(bundle).returncode == 1
    job = state(command)
    assert (job["state"], job["task"]) == ("FAILED", stage)
    assert archived(pacifica) == before
    assert ask(pacifica, f"/transactions?_id={job['job_id']}") == []


def test_what_clients_write_in_other_ways_is_recorded_and_restored(
    pacifica: PacificaServices, command: Command, tmp_path: Path
) -> None:
    values = [{"destinationTable": "TransactionKeyValue", "key": 7, "value": value} for value in (10, 1.5, True)]
    record = file_record("data/x", b"x", size="1", mtime=1480428545)
    records = [*transaction(), record, *values]
    records[0]["value"], records[2]["value"] = "10", 54.0
    metadata = json.dumps(records).encode("utf-16")
    done = command(write_bundle(tmp_path / "b.tar", {"data/x": b"x"}, metadata=metadata))
    assert done.returncode == 0, done.stderr
    job_id = state(command)["job_id"]
    assert command("restore", job_id, "-o", "again.tar").returncode == 0
    document = json.loads(members(tmp_path / "again.tar")["metadata.txt"])
    assert {value["value"] for value in document if value.get("key") == "7"} == {"10", "1.5", "True"}
    (file,) = [value for value in document if value["destinationTable"] == "Files"]
    assert (file["size"], file["mtime"]) == (1, "2016-11-29T14:09:05")
    assert command("--again", "again.tar").returncode == 0


@pytest.mark.parametrize("good", [True, False])
def test_a_move(pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str], good: bool) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"moved")
    record = file_record("data/moved", b"moved", source=str(source))
    if not good:
        record["hashsum"] = "0" * 40
    document = tmp_path / "move.json"
    document.write_text(json.dumps([*transaction(), record]))
    done = command("move", document)
    assert done.returncode == (0 if good else 1), done.stderr
    assert source.exists() is not good
    if good:
        assert_stored(pacifica, state(command)["job_id"], {"data/moved": b"moved"})
    else:
        assert state(command)["task"] == "move files"
        assert archived(pacifica) == before


@pytest.mark.parametrize(
    ("name", "stage"),
    [("policy", "Policy Validation"), ("archiveinterface", "ingest files"), ("metadata", None)],
)
def test_a_stopped_service_is_waited_for_by_a_later_run(
    pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str], name: str, stage: str | None
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    pacifica.stop(name)
    try:
        done = command(bundle)
        first = state(command)
        # Without metadata the policy service cannot answer either, and says so in its own ways.
        assert done.returncode == (4 if stage else done.returncode) != 0
        assert stage in (None, first["task"])
        assert archived(pacifica) == before
    finally:
        pacifica.start(name)
    done = command(bundle)
    assert done.returncode == 0, done.stderr
    job = state(command)
    assert stage is None or job["job_id"] == first["job_id"]
    assert_stored(pacifica, job["job_id"], FILES)


def test_an_archive_killed_in_the_middle(
    pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str], starting: Callable[..., Running]
) -> None:
    files = {f"data/{number}": os.urandom(2000) for number in range(1500)}
    bundle = write_bundle(tmp_path / "b.tar", files)
    running = starting(bundle)
    until(lambda: len(archived(pacifica)) >= len(before) + 50 or running.poll() is not None)
    pacifica.stop("archiveinterface", kill=True)
    assert running.wait(120) == 4
    first = state(command)
    assert (first["state"], first["task"]) == ("FAILED", "ingest files")
    pacifica.start("archiveinterface")
    done = command(bundle)
    assert done.returncode == 0, done.stderr
    job = state(command)
    assert job["job_id"] == first["job_id"]
    assert_stored(pacifica, job["job_id"], files)
    assert len(archived(pacifica)) == len(before) + len(files), "no orphans"


def test_metadata_killed_between_receiving_and_answering(
    pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with LosingAnswers(pacifica.url("metadata"), lambda: pacifica.stop("metadata", kill=True)) as between:
        monkeypatch.setenv("METADATA_INGEST_URL", between.url + "/ingest")
        try:
            assert command(bundle).returncode == 4
        finally:
            pacifica.start("metadata")
        first = state(command)
        assert (first["state"], first["task"]) == ("FAILED", "ingest metadata")
        assert len(archived(pacifica)) == len(before) + len(FILES), "kept, as the job says"
        assert ask(pacifica, f"/transactions?_id={first['job_id']}")
        done = command(bundle)
    assert done.returncode == 0, done.stderr
    job = state(command)
    assert job["job_id"] == first["job_id"]
    assert_stored(pacifica, job["job_id"], FILES)
    assert len(archived(pacifica)) == len(before) + len(FILES)


@pytest.fixture
def under_uwsgi(pacifica: PacificaServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not pacifica.has_uwsgi:
        pytest.skip("uWSGI is not installed beside the Pacifica services")
    pacifica.stop("archiveinterface")
    try:
        pacifica.start("archiveinterface", uwsgi=True)
        monkeypatch.setenv("ARCHIVEINTERFACE_TRANSFERS", "4")
        yield
        pacifica.stop("archiveinterface")
    finally:
        pacifica.start("archiveinterface")


@pytest.mark.usefixtures("under_uwsgi")
def test_an_archive_under_uwsgi_takes_four_transfers(
    pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str]
) -> None:
    files = {f"data/{number}": os.urandom(number * 100) for number in range(600)} | {"data/large": os.urandom(3 << 20)}
    done = command(write_bundle(tmp_path / "b.tar", files))
    assert done.returncode == 0, done.stderr
    assert_stored(pacifica, state(command)["job_id"], files)
    assert len(archived(pacifica)) == len(before) + len(files)


@pytest.mark.parametrize("uwsgi", [False, True])
def test_doctor_finds_out_how_many_files_an_archive_takes(
    pacifica: PacificaServices, command: Command, before: set[str], uwsgi: bool, request: pytest.FixtureRequest
) -> None:
    if uwsgi:
        request.getfixturevalue("under_uwsgi")
    found = {row["name"]: row for row in json.loads(command("doctor", "--probe", "--json").stdout)}
    assert all(row["ok"] for row in found.values()), found
    assert ("8 at once" in found and "wrote, read back" in found["8 at once"]["detail"]) is uwsgi, found
    assert archived(pacifica) == before


def test_a_move_that_fails_halfway_is_given_back(
    pacifica: PacificaServices, command: Command, tmp_path: Path, before: set[str]
) -> None:
    sources = [tmp_path / "one", tmp_path / "two"]
    for source in sources:
        source.write_bytes(source.name.encode())
    records = [file_record(f"data/{source.name}", source.name.encode(), source=str(source)) for source in sources]
    (tmp_path / "move.json").write_text(json.dumps([*transaction(), *records]))
    # A folder stands where the second file is to go.
    with urllib.request.urlopen(pacifica.url("uniqueid") + "/getid?range=1&mode=file") as response:
        blocked = pacifica.archive / str(json.load(response)["startIndex"] + 2) / "two"
    blocked.mkdir(parents=True)
    try:
        assert command("move", tmp_path / "move.json").returncode == 1
    finally:
        blocked.rmdir()
        blocked.parent.rmdir()
    assert state(command)["task"] == "move files"
    assert [source.read_bytes() for source in sources] == [b"one", b"two"]
    assert archived(pacifica) == before


def test_only_an_archive_interface(
    pacifica: PacificaServices, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.settings = load_settings(environment={**os.environ, "POLICY_INGEST_URL": "", "METADATA_INGEST_URL": ""})
    job = site.ingest(
        write_bundle(tmp_path / "b.tar", {"data/only": b"archive"}, document_for({"data/only": b"archive"}))
    )
    (row,) = site.rows("Files")
    assert job.is_done
    assert (pacifica.archive / str(row["id"])).read_bytes() == b"archive"


def test_what_is_stored_is_verified_and_had_back(pacifica: PacificaServices, command: Command, tmp_path: Path) -> None:
    records = document_for(FILES)
    for number, record in enumerate(record for record in records if record["destinationTable"] == "Files"):
        record["_id"] = 100 + number
    records.append({"destinationTable": "FileKeyValue", "file_id": 101, "key": "phase", "value": "solid"})
    assert command(write_bundle(tmp_path / "b.tar", FILES, records)).returncode == 0
    job_id = state(command)["job_id"]
    assert command("verify", job_id).returncode == 0
    assert command("restore", job_id, "-o", "again.tar").returncode == 0
    before, again = members(tmp_path / "b.tar"), members(tmp_path / "again.tar")
    documents = [json.loads(files.pop("metadata.txt")) for files in (before, again)]
    assert before == again
    assert cleaned(documents[0]) == cleaned(documents[1])
    assert command("--again", "again.tar").returncode == 0


def test_what_is_stored_is_found(pacifica: PacificaServices, command: Command, tmp_path: Path) -> None:
    own = os.urandom(8).hex()
    files = {f"data/{own}.raw": own.encode(), f"data/sub/{own}_2.raw": b"", f"data/sub/{own}": os.urandom(2 << 20)}
    assert command(write_bundle(tmp_path / "b.tar", files)).returncode == 0
    job_id = state(command)["job_id"]

    def found(*words: object) -> list[str]:
        done = command("find", "--json", *words)
        assert done.returncode == 0, done.stderr
        return [file["path"] for file in map(json.loads, done.stdout.splitlines()) if own in file["path"]]

    assert found("--name", f"{own}*") == list(files)
    assert found("--name", f"{own}_?.raw", "--project", "1234a", "--since", "1h") == [f"data/sub/{own}_2.raw"]
    assert found("--path", "sub/*", "--instrument", 54, "--submitter", 10, "--since", "10m") == list(files)[1:]
    assert found("--key", "Taxonomic Family=bacteria", "--name", f"{own}.*") == [f"data/{own}.raw"]
    assert command("find", "--path", "*").returncode == 2
    assert len(command("ls", job_id).stdout.splitlines()) == len(files)
    assert command("cat", job_id, f"{own}.raw").stdout == own
    assert command("restore", job_id, "sub", "--to", "run7").returncode == 0
    assert (tmp_path / "run7" / "data" / "sub" / own).read_bytes() == files[f"data/sub/{own}"]
    assert command("find", "--file", "run7/data").returncode == 0
    (tmp_path / "run7" / "data" / "new").write_text(f"{own} again")
    assert command("find", "--file", "run7/data").returncode == 1
