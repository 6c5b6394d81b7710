"""``ingest doctor`` says what works, what fails, and by its exit code whether a job would run."""

import json
import os
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.maintenance import probe
from ingest_cli.services.pacifica import http
from ingest_cli.settings import load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.http_faults import answering
from ..support.pacifica_double import PATIENCE, Fault, Handler, PacificaSite
from ..support.site import Site

NAMES = ["job store", "clock", "spool folder", "ids", "policy", "archive", "catalogue"]


def rows(command: Command, *words: str, code: int) -> dict[str, dict[str, Any]]:
    done = command("doctor", "--json", *words)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert all(list(row) == ["name", "ok", "detail", "advice"] for row in found)
    return {row["name"]: row for row in found}


def failing(found: dict[str, dict[str, Any]]) -> list[str]:
    assert all(row["advice"] for row in found.values() if not row["ok"])
    return [name for name, row in found.items() if not row["ok"]]


def test_all_is_ok_with_nothing_configured(command: Command) -> None:
    done = command("doctor")
    assert done.returncode == 0
    assert [(line[:5], line[5:18].strip()) for line in done.stdout.splitlines()] == [("OK   ", name) for name in NAMES]
    found = rows(command, code=0)
    assert list(found) == NAMES
    assert all(row["ok"] is True and row["detail"] and not row["advice"] for row in found.values())


def test_nothing_is_made_before_the_first_job(command: Command, site: Site) -> None:
    found = rows(command, code=0)
    made_later = ["job store", "spool folder", "ids", "archive", "catalogue"]
    assert [name for name, row in found.items() if "not there yet" in row["detail"]] == made_later
    assert not site.database.parent.exists()


def test_what_is_not_there_yet_and_cannot_be_made(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    found = rows(command, code=1)
    assert failing(found) == ["job store", "spool folder", "ids", "archive", "catalogue"]


def test_drop_folders_of_the_configuration(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drop").mkdir()
    monkeypatch.setenv("INGEST_WATCH_FOLDERS", str(tmp_path / "drop"))
    assert failing(rows(command, code=0)) == []
    monkeypatch.setenv("INGEST_WATCH_DONE", str(tmp_path / "done"))
    found = rows(command, code=1)
    assert failing(found) == ["drop folder"]
    assert found["drop folder"]["detail"] == f"cannot write into {tmp_path / 'done'}: No such file or directory"


def test_all_is_ok_at_a_site(command: Command, pacific: PacificaSite) -> None:
    assert failing(rows(command, code=0)) == []
    assert not pacific.files
    assert not pacific.transactions


def test_places_that_cannot_be_used(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "store").write_text("no database")
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", (tmp_path / "file").as_uri())
    monkeypatch.setenv("VOLUME_PATH", str(tmp_path / "file"))
    monkeypatch.setenv("INGEST_DB", str(tmp_path / "store"))
    monkeypatch.setenv("POLICY_INGEST_URL", (tmp_path / "missing.json").as_uri())
    found = rows(command, code=1)
    assert failing(found) == ["job store", "spool folder", "policy", "archive"]
    assert "file is not a database" in found["job store"]["detail"]
    assert "VOLUME_PATH" in found["spool folder"]["advice"]
    lines = command("doctor").stdout.splitlines()
    (number,) = (number for number, line in enumerate(lines) if line.startswith("FAIL archive"))
    assert "ARCHIVEINTERFACE_URL" in lines[number + 1]


@pytest.mark.parametrize(
    "secret",
    [
        "[server]\ntoken = hush\n",
        "[s3]\nsecret_access_key = hush\n",
        "[policy]\ningest_url = http://me:hush@[::1]:9/\n",
    ],
)
def test_secrets_that_every_user_can_read(command: Command, tmp_path: Path, secret: str) -> None:
    config = tmp_path / "site.ini"
    config.write_text(secret)
    config.chmod(0o604)
    done = command("doctor", "--config", str(config))
    assert "hush" not in done.stdout
    assert done.stdout.splitlines()[:2] == [
        f"FAIL config file  {config} holds a password or a token, and every user of this machine can read it",
        f"{'':18}chmod o= {config}",
    ]
    config.chmod(0o640)
    assert "config file" not in command("doctor", "--config", str(config)).stdout
    config.write_text("[ingest]\ndefault_user = ada\n")
    config.chmod(0o644)
    assert command("doctor", "--config", str(config)).returncode == 0


def test_folders_that_cannot_be_written(command: Command, site: Site) -> None:
    for folder in (site.archive, site.settings.spool):
        folder.mkdir(parents=True, mode=0o500)
    line = command.line("doctor", "--json")
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere")
        line = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *line]
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert [row["name"] for row in json.loads(done.stdout) if not row["ok"]] == ["spool folder", "archive"]


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_damaged_store(command: Command, site: Site, tmp_path: Path, page: int) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with site.database.open("r+b") as file:
        # The first page begins with the words "SQLite format 3".
        file.seek(4096 * page or 100)
        file.write(b"\xa5" * 2048)
    found = rows(command, code=1)
    assert failing(found) == ["job store"]
    assert str(site.database) in found["job store"]["detail"]
    assert "clock" not in found


def test_a_clock_that_was_set_back(command: Command, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("UPDATE jobs SET updated = '2999-01-01 00:00:00.000000'")
    assert failing(rows(command, code=1)) == ["clock"]


def test_services_that_cannot_be_reached_have_their_own_exit_code(command: Command, pacific: PacificaSite) -> None:
    pacific.shutdown()
    pacific.server_close()
    assert failing(rows(command, code=4)) == ["ids", "policy", "archive", "catalogue"]


def test_what_is_ill_in_several_ways_has_the_exit_code_of_a_failure(
    command: Command, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POLICY_INGEST_URL", (tmp_path / "missing.json").as_uri())
    assert failing(rows(command, code=2)) == ["policy"]
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", "http://127.0.0.1:1")
    assert failing(rows(command, code=1)) == ["policy", "archive"]


def test_a_service_that_does_not_know_us_fails(command: Command, pacific: PacificaSite) -> None:
    pacific.fail("POST", 1, answering(401, {"message": "who are you?"}))
    found = rows(command, code=4)
    assert failing(found) == ["policy"]
    assert "401: who are you?" in found["policy"]["detail"]


def test_a_page_of_html_is_no_service(command: Command, pacific: PacificaSite) -> None:
    def page(handler: Handler) -> bool:
        handler.answer(200, b"<html>")
        return True

    pacific.fail("GET", 2, page)
    found = rows(command, code=4)
    assert failing(found) == ["archive"]
    assert "unexpected answer from the archive at" in found["archive"]["detail"]


@pytest.mark.parametrize(("hours", "saying"), [(1, "ahead of this machine's"), (-1, "behind this machine's")])
def test_a_service_whose_clock_is_wrong(command: Command, pacific: PacificaSite, hours: int, saying: str) -> None:
    def mistaken(handler: Handler) -> bool:
        date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
        handler.date_time_string = lambda timestamp=None: date  # type: ignore[method-assign]
        handler.close_connection = True
        return False

    pacific.fail("POST", 1, mistaken)
    found = rows(command, code=4)
    assert failing(found) == ["policy"]
    assert saying in found["policy"]["detail"]
    assert "the clock of the policy service is " in found["policy"]["detail"]


def test_the_probe_leaves_nothing_behind(command: Command, site: Site) -> None:
    assert "wrote, read back and deleted" in rows(command, "--probe", code=0)["1 at once"]["detail"]
    assert site.archived() == {}
    assert list(site.settings.spool.iterdir()) == []


@pytest.mark.sweep
def test_the_probe_of_an_archive_that_takes_many(command: Command, pacific: PacificaSite) -> None:
    pacific.seconds_a_file = 0.005
    most: list[int] = []

    def begin_level(count: int) -> Fault:
        def gather(_: Handler) -> bool:
            most.append(pacific.most_at_work)
            pacific.gather(count)
            return False

        return gather

    for level, count in enumerate(probe.PROBE_TRANSFERS):
        pacific.fail("PUT", level * probe.PROBE_FILES + 1, begin_level(count))
    found = rows(command, "--probe", code=0)
    levels = [f"{count} at once" for count in probe.PROBE_TRANSFERS]
    assert list(found) == [*NAMES, *levels, "advice"]
    assert all("wrote, read back and deleted" in found[level]["detail"] for level in levels)
    assert "transfers = 8" in found["advice"]["detail"]
    assert [*most[1:], pacific.most_at_work] == list(probe.PROBE_TRANSFERS)
    assert not pacific.files


@pytest.mark.sweep
@pytest.mark.parametrize(("transfers", "code"), [(1, 0), (4, 1)])
def test_the_probe_finds_an_archive_that_mixes_up_files(
    command: Command, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, transfers: int, code: int
) -> None:
    """Two that come at once are stored under each other's number."""
    meeting = threading.Barrier(2)
    met: dict[bool, bytes] = {}

    def mixing(handler: Handler) -> bool:
        body = handler.body()
        try:
            first = meeting.wait(PATIENCE) == 0
            met[first] = body
            meeting.wait(PATIENCE)
            handler.server.files[handler.file_id()] = met[not first]
            meeting.wait(PATIENCE)
        except threading.BrokenBarrierError:
            handler.server.files[handler.file_id()] = body
        handler.answer(201, {"message": "File added to archive", "total_bytes": len(body)})
        return True

    for number in range(probe.PROBE_FILES + 1, 2 * probe.PROBE_FILES + 1):
        pacific.fail("PUT", number, mixing)
    monkeypatch.setenv("ARCHIVEINTERFACE_TRANSFERS", str(transfers))
    found = rows(command, "--probe", code=code)
    assert list(found) == [*NAMES, "1 at once", "2 at once"]
    assert f"{probe.PROBE_FILES} of {probe.PROBE_FILES} files came back damaged" in found["2 at once"]["detail"]
    assert found["2 at once"]["ok"] is (code == 0)
    said = found["2 at once"]["detail" if code == 0 else "advice"]
    assert ("so send one file at a time" if code == 0 else "transfers = 1") in said
    assert not pacific.files


@pytest.mark.sweep
@pytest.mark.parametrize(("transfers", "ok"), [(1, True), (2, False)])
def test_the_probe_counts_a_file_that_was_taken_at_a_later_try_as_wrong(
    pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, transfers: int, ok: bool
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    pacific.fail("PUT", probe.PROBE_FILES + 3, answering(500, {"message": "no"}))
    settings = load_settings(environment={**os.environ, "ARCHIVEINTERFACE_TRANSFERS": str(transfers)})
    settings.spool.mkdir(parents=True)
    found = list(probe.probe(settings))
    assert [(finding.name, finding.ok) for finding in found] == [("1 at once", True), ("2 at once", ok)]
    assert "only after 1 failed attempt" in found[1].detail
    assert not pacific.files


def test_the_probe_of_an_archive_that_loses_a_file(pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(handler: Handler) -> bool:
        if (handler.command, handler.path) != ("GET", "/2"):
            return False
        handler.server.files.pop(2)
        handler.answer(500, {})
        return True

    pacific.guard = losing
    settings = load_settings()
    settings.spool.mkdir(parents=True)
    (found,) = probe.probe(settings)
    assert (found.name, found.ok) == ("1 at once", False)
    assert f"1 of {probe.PROBE_FILES} files came back damaged" in found.detail
    assert not pacific.files


def test_the_probe_touches_no_file_that_stands_there_already(command: Command, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    before = site.archived()
    assert isinstance(site.settings.unique_id, Path)
    with closing(sqlite3.connect(site.settings.unique_id)) as connection, connection:
        connection.execute("DELETE FROM unique_index")
    found = rows(command, "--probe", code=1)
    assert "does the id store belong to this archive?" in found["1 at once"]["detail"]
    assert site.archived() == before


def test_the_probe_deletes_what_it_can_and_names_the_rest(
    pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    pacific.fail("DELETE", 3, answering(403, {"message": "not you"}))
    (found,) = probe.probe(load_settings())
    assert not found.ok
    assert "cannot delete from the archive: file 3 (" in found.detail
    assert list(pacific.files) == [3]


@pytest.mark.parametrize("variable", ["VOLUME_PATH", "ARCHIVEINTERFACE_URL"])
def test_the_probe_where_a_folder_is_a_file(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    place = tmp_path / "file"
    monkeypatch.setenv(variable, place.as_uri() if variable.endswith("URL") else str(place))
    found = rows(command, "--probe", code=1)
    assert failing(found)[-1] == "1 at once"
    assert str(place) in found["1 at once"]["detail"]
