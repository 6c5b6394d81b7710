"""``ingest doctor`` says what is well, what is ill, and by its exit code whether a job would run."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_cli import doctor
from ingest_cli.settings import load_settings

from .bundles import write_bundle
from .conftest import Command
from .pacifica_double import Handler, PacificaSite
from .site import Site

NAMES = ["job store", "clock", "spool folder", "ids", "policy", "archive", "catalogue"]


@pytest.fixture
def pacific(monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    with PacificaSite() as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        yield server


def rows(command: Command, *words: str, code: int) -> dict[str, dict[str, Any]]:
    done = command("doctor", "--json", *words)
    assert done.returncode == code, done.stdout + done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def ill(found: dict[str, dict[str, Any]]) -> list[str]:
    assert all(row["advice"] for row in found.values() if not row["ok"])
    return [name for name, row in found.items() if not row["ok"]]


def test_all_is_well_with_nothing_configured(command: Command) -> None:
    done = command("doctor")
    assert done.returncode == 0
    assert [line[:18].split(None, 1)[0] for line in done.stdout.splitlines()] == ["well"] * len(NAMES)
    assert list(rows(command, code=0)) == NAMES


def test_all_is_well_at_a_site(command: Command, pacific: PacificaSite) -> None:
    assert ill(rows(command, code=0)) == []
    assert not pacific.files
    assert not pacific.transactions


def test_places_that_cannot_be_used(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "store").write_text("no database")
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", (tmp_path / "file").as_uri())
    monkeypatch.setenv("VOLUME_PATH", str(tmp_path / "file"))
    monkeypatch.setenv("INGEST_DB", str(tmp_path / "store"))
    monkeypatch.setenv("POLICY_INGEST_URL", (tmp_path / "missing.json").as_uri())
    assert ill(rows(command, code=1) | {}) == ["job store", "spool folder", "policy", "archive"]


def test_a_damaged_store(command: Command, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with site.settings.database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))
    assert ill(rows(command, code=1)) == ["job store"]


def test_a_clock_that_was_set_back(command: Command, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with closing(sqlite3.connect(site.settings.database)) as connection, connection:
        connection.execute("UPDATE jobs SET updated = '2999-01-01 00:00:00.000000'")
    assert ill(rows(command, code=1)) == ["clock"]


def test_services_that_cannot_be_reached_have_their_own_exit_code(command: Command, pacific: PacificaSite) -> None:
    pacific.shutdown()
    pacific.server_close()
    assert ill(rows(command, code=4)) == ["ids", "policy", "archive", "catalogue"]


def test_a_page_of_html_is_no_service(command: Command, pacific: PacificaSite) -> None:
    def page(handler: Handler) -> bool:
        handler.answer(200, b"<html>")
        return True

    pacific.fail("GET", 2, page)
    found = rows(command, code=4)
    assert ill(found) == ["archive"]
    assert "does not answer as it should" in found["archive"]["detail"]


def test_a_service_whose_clock_is_wrong(command: Command, pacific: PacificaSite) -> None:
    def late(handler: Handler) -> bool:
        handler.date_time_string = lambda _=None: "Tue, 24 Nov 2020 00:00:00 GMT"  # type: ignore[method-assign, assignment]
        return False

    pacific.fail("GET", 1, late)
    found = rows(command, code=4)
    assert "ids" in ill(found)
    assert "behind this machine's" in found["ids"]["detail"]


def test_the_probe_leaves_nothing_behind(command: Command, site: Site) -> None:
    assert "were written" in rows(command, "--probe", code=0)["1 at once"]["detail"]
    assert site.archived() == {}


def test_the_probe_of_an_archive_that_takes_many(command: Command, pacific: PacificaSite) -> None:
    pacific.seconds_a_file = 0.02
    found = rows(command, "--probe", code=0)
    assert "were written" in found["8 at once"]["detail"]
    assert "transfers = 8" in found["advice"]["detail"]
    assert pacific.most_at_work == 8
    assert not pacific.files


@pytest.mark.parametrize(("transfers", "code"), [(1, 0), (2, 1)])
def test_the_probe_finds_an_archive_that_mixes_up_files(pacific: PacificaSite, transfers: int, code: int) -> None:
    """The last of the bytes that came at the same time win, as in the released one under its own server."""
    meeting = threading.Barrier(2)
    store = Handler.serve_put

    def mixing(handler: Handler) -> bool:
        try:
            meeting.wait(0.2)
        except threading.BrokenBarrierError:
            meeting.reset()
            store(handler)
        else:
            body = handler.body()
            handler.server.files[handler.file_id()] = body[::-1]
            handler.answer(201, {"message": "File added to archive", "total_bytes": len(body)})
        return True

    for number in range(doctor.PROBE_FILES + 1, 3 * doctor.PROBE_FILES + 1):
        pacific.fail("PUT", number, mixing)
    settings = load_settings(environment={**os.environ, "ARCHIVEINTERFACE_TRANSFERS": str(transfers)})
    settings.spool.mkdir(parents=True)
    found = list(doctor.probe(settings))
    assert [finding.name for finding in found] == ["1 at once", "2 at once"]
    assert "holds other bytes than were sent" in found[1].detail
    assert found[1].ok is (code == 0)
    assert not pacific.files


def test_the_probe_touches_no_file_that_stands_there_already(command: Command, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    before = site.archived()
    assert isinstance(site.settings.unique_id, Path)
    site.settings.unique_id.unlink()
    found = rows(command, "--probe", code=1)
    assert "the ids are behind the archive" in found["1 at once"]["detail"]
    assert site.archived() == before
