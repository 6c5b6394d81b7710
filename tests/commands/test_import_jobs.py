"""``ingest import-jobs``: what Pacifica Ingest answered for its jobs is answered here, and they are nobody's to run."""

import json
import random
import sqlite3
import sys
import traceback
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from ingest_cli import api
from ingest_cli.errors import ExitCode, IngestError, JobNotFound, SettingsError, StoreError
from ingest_cli.jobs.job import Override, PacificaState
from ingest_cli.jobs.store import open_store
from ingest_cli.maintenance import ingeststate
from ingest_cli.maintenance.import_jobs import Tally
from ingest_cli.maintenance.ingeststate import PAGE
from ingest_cli.maintenance.prune import find_prunable
from ingest_cli.pipeline.observer import Observer

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.ingeststate import LOOSE, TABLE, UPDATED, answer, row, write_rows
from ..support.serving import Server
from ..support.site import Site

FAILED = {"state": "FAILED", "task": "ingest files", "task_percent": 0, "complete": 1}
STORY = "Traceback (most recent call last):\n  File \"tasks.py\"\nKeyError: 'total_bytes'\n\x1b[31m\u202e" + "x" * 9000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite3"


def imported(source: Path | str, site: Site) -> tuple[Tally, list[str]]:
    """What became of the jobs of a database, and what was told."""
    tally, told = Tally(), list[str]()
    for _ in api.import_jobs(str(source), tally=tally, note=told.append, settings=site.settings):
        pass
    return tally, told


def state_of(job_id: int, site: Site) -> dict[str, Any]:
    return api.find_imported_job(job_id, settings=site.settings).as_state()


@pytest.mark.sweep
def test_an_old_id_is_answered_as_it_was(command: Command, old: Path, tmp_path: Path) -> None:
    write_rows(old, [row(1016), row(1017, **FAILED, exception=STORY)])
    assert command("import-jobs", old).returncode == 0
    failed = answer(1017, state="FAILED", task="ingest files", task_percent="0", exception=STORY)
    with Server(tmp_path) as server:
        assert server.state(1016) == answer(1016)
        assert server.state(1017) == failed
        assert requests.get(f"{server.url}/get_state?job_id=1018", timeout=60).status_code == 404
        assert requests.get(f"{server.url}/jobs", timeout=60).json() == []
        told = requests.get(f"{server.url}/jobs/1016", timeout=60)
        assert (told.status_code, told.json()["message"]) == (
            404,
            "job 1016 was imported: only its state is known here",
        )
        write_rows(old, [row(1018)])
        assert command("import-jobs", old).returncode == 0
        assert server.state(1018) == answer(1018), "while the server runs"
    shown = json.loads(command("state", 1017, "--json").stdout)
    assert shown.items() >= {**failed, "source": "", "origin": "Pacifica Ingest", "status": "imported"}.items()
    assert list(shown)[:8] == list(failed)
    said = command("state", 1017).stdout
    assert said.startswith("job       1017, imported from Pacifica Ingest\nstate     FAILED\n")
    assert "\x1b" not in said


def test_what_is_said(command: Command, old: Path) -> None:
    write_rows(old, [row(1), row(2, task="ingest files", task_percent=0, complete=0)])
    done = command("import-jobs", old)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("2 jobs read in 0.")
    assert first.endswith(" s: 2 new, 0 changed, 0 unchanged, 0 not imported")
    assert second == "1 job had not come to an end: import again later"
    assert command("import-jobs", old, "--quiet").stdout == ""


def test_importing_again_brings_everything_up_to_date(site: Site, old: Path) -> None:
    write_rows(old, [row(1), row(2, task="ingest files", task_percent=0, complete=0)])
    assert imported(old, site)[0] == Tally(read=2, new=2, unfinished=1, last_id=2)
    assert imported(old, site)[0] == Tally(read=2, unfinished=1, last_id=2)
    write_rows(old, [row(2), row(3, **FAILED)])
    tally, _ = imported(old, site)
    assert tally == Tally(read=3, new=1, changed=1, last_id=3)
    assert tally.unchanged == 1
    assert [state_of(job_id, site)["state"] for job_id in (1, 2, 3)] == ["OK", "OK", "FAILED"]
    assert state_of(2, site) == answer(2)


def test_the_database_is_only_read_and_never_held(site: Site, old: Path) -> None:
    """A service on SQLite could not write while somebody reads: it does so at each step here, and never waits."""
    write_rows(old, [row(number) for number in range(1, 3 * PAGE)])
    with closing(sqlite3.connect(old, timeout=0)) as service:
        for number, _ in enumerate(api.import_jobs(str(old), settings=site.settings)):
            with service:
                service.execute("UPDATE ingeststate SET state = ? WHERE id <= ?", (f"round {number}", PAGE))
    assert number == 2
    assert state_of(1, site) == answer(1), "it was read in the first round"
    before = old.read_bytes()
    imported(old, site)
    assert state_of(1, site)["state"] == "round 2"
    assert (old.read_bytes(), sorted(old.parent.glob("db.*"))) == (before, [old])


def test_nothing_can_be_written(old: Path) -> None:
    write_rows(old, [row(1)])
    with pytest.raises(IngestError, match="readonly"), ingeststate.opened(str(old)) as table:
        table._connection.execute("DELETE FROM ingeststate")


def test_what_the_service_has_not_yet_written_back(site: Site, old: Path) -> None:
    """It may keep a write-ahead log, and have the database open."""
    write_rows(old, [row(1)])
    with closing(sqlite3.connect(old, isolation_level=None)) as service:
        service.execute("PRAGMA journal_mode = WAL")
        service.execute("UPDATE ingeststate SET state = 'FAILED'")
        assert old.with_name("db.sqlite3-wal").stat().st_size > 0
        imported(old, site)
        assert state_of(1, site)["state"] == "FAILED"
        service.execute("UPDATE ingeststate SET state = 'OK'")
        assert imported(old, site)[0].changed == 1


def test_a_job_of_this_store_stays_what_it_is(site: Site, old: Path, tmp_path: Path) -> None:
    own = site.ingest(write_bundle(tmp_path / "b.tar"))
    write_rows(old, [row(own.job_id, task="open tar"), row(own.job_id + 1)])
    tally, told = imported(old, site)
    assert (tally.own, tally.new, tally.unfinished, told) == (
        1,
        1,
        0,
        ["job 1 is not imported: it is a job of this store"],
    )
    assert site.job(own.job_id) == own
    with pytest.raises(JobNotFound):
        api.find_imported_job(own.job_id, settings=site.settings)


def test_new_ids_go_on_behind_those_that_were_imported(site: Site, old: Path, tmp_path: Path) -> None:
    before = site.ingest(write_bundle(tmp_path / "before.tar", {"data/before": b""}))
    imported(write_rows(old, [row(7), row(2000)]), site)
    after = site.ingest(write_bundle(tmp_path / "after.tar", {"data/after": b""}))
    assert [record["id"] for record in site.rows("Transactions")] == [before.job_id, after.job_id] == [1, 2001]
    imported(write_rows(old, [row(8)]), site)
    assert site.ingest(write_bundle(tmp_path / "last.tar", {"data/last": b""})).job_id == 2002


def test_no_job_gets_an_id_that_was_imported(
    site: Site, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(write_rows(old, [row(1)]), site)
    monkeypatch.setenv("UNIQUEID_URL", (tmp_path / "other-ids.sqlite3").as_uri())
    other = Site(site.archive.parent)
    with pytest.raises(StoreError, match="already holds a job 1; do its ids come from another id store"):
        other.ingest(write_bundle(tmp_path / "b.tar"))
    assert state_of(1, site) == answer(1)


def test_they_are_no_jobs(site: Site, old: Path) -> None:
    imported(write_rows(old, [row(5, **FAILED)]), site)
    settings = site.settings
    (retried,) = api.retry_jobs([5], lambda *_: Observer(), settings=settings)
    assert isinstance(retried.error, JobNotFound)
    assert str(retried.error) == "job 5 was imported: only its state is known here"
    with pytest.raises(JobNotFound, match="job 5 was imported"):
        api.set_job_state(5, Override(PacificaState.FAILED, "ingest files", 0, ""), settings=settings)
    (discarded,) = api.discard_jobs([5], settings=settings)
    assert isinstance(discarded.error, JobNotFound)
    assert api.retry_jobs([], lambda *_: Observer(), failed=True, interrupted=True, settings=settings) == []
    with open_store(settings) as store:
        assert not any(piece.jobs for piece in find_prunable(settings, store, timedelta()))
        assert store.tallies()["failed"] == (0, 0, 0)
    assert site.jobs() == []
    assert state_of(5, site)["state"] == "FAILED"


BAD = {
    "no state": ({"state": None}, "its state is missing"),
    "no task": ({"task": None}, "its task is missing"),
    "no percent": ({"task_percent": None}, "its task_percent is missing"),
    "a percent that is none": ({"task_percent": "much"}, "its task_percent is 'much'"),
    "an infinite percent": ({"task_percent": "inf"}, "its task_percent is "),
    "no reason": ({"exception": None}, "its exception is missing"),
    "no time": ({"updated": None}, "its updated is missing"),
    "a number for a time": ({"created": b"\xff"}, "its created is not valid UTF-8"),
    "a state that is not UTF-8": ({"state": b"\xfe"}, "its state is not valid UTF-8"),
    "a negative id": ({"id": -2}, "its id is -2"),
    "no id that a job can have": ({"id": 0}, "its id is 0"),
    "an id behind which there is none": ({"id": (1 << 63) - 1}, f"its id is {(1 << 63) - 1}"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
def test_a_row_that_cannot_be_used_is_told_and_the_next_is_imported(
    site: Site, old: Path, changes: dict[str, Any], reason: str
) -> None:
    bad = {**row(2), **changes}
    tally, told = imported(write_rows(old, [row(1), bad, row(3)], LOOSE), site)
    assert (tally.read, tally.new, tally.bad) == (3, 2, 1)
    assert len(told) == 1
    assert told[0].startswith(f"job {bad['id']} is not imported: {reason}")
    assert [state_of(job_id, site) for job_id in (1, 3)] == [answer(1), answer(3)]


@pytest.mark.sweep
@pytest.mark.parametrize("job_id", [None, "text", b"\xff", 2.5])
def test_rows_without_a_number_for_an_id_are_counted(command: Command, site: Site, old: Path, job_id: object) -> None:
    write_rows(old, [row(1), row(job_id), row(3)], LOOSE.replace("BIGINT", "BLOB"))
    done = command("import-jobs", old)
    assert done.returncode == ExitCode.SOME_FAILED
    assert done.stderr == "ingest: warning: 1 row without a number for an id: not imported\n"
    assert state_of(3, site) == answer(3)


def test_text_that_is_not_utf_8(site: Site, old: Path) -> None:
    write_rows(old, [row(1), row(2), row(3)])
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE ingeststate SET exception = CAST(x'ff41' AS TEXT) WHERE id = 2")
    tally, told = imported(old, site)
    assert (tally.new, told) == (2, ["job 2 is not imported: its exception is not valid UTF-8"])


def test_a_table_of_a_version_that_had_no_complete(site: Site, old: Path) -> None:
    earlier = TABLE.replace(', "complete" INTEGER NOT NULL', "")
    at_work = {"task": "ingest metadata", "task_percent": 0}
    rows = [row(1), row(2, **FAILED), row(3, **at_work), row(4, task="open tar")]
    for each in rows:
        del each["complete"]
    imported(write_rows(old, rows, earlier), site)
    assert [state_of(job_id, site)["complete"] for job_id in (1, 2, 3, 4)] == [True, True, False, False]


def test_whatever_the_service_wrote_is_answered_as_it_answers(site: Site, old: Path) -> None:
    """Percents and times of SQLite, as peewee reads and the service shows them."""
    chance = random.Random(15)
    percents: list[tuple[Any, str]] = [(0, "0"), (100, "100"), ("100.0", "100"), (42.3, "42.3"), (1e-7, "1E-7")]
    times = [UPDATED, "2026-11-23 23:18:39", "2026-11-23 00:00:00", "yesterday", "1970-01-01 00:00:00.000001"]
    texts = ["", "OK", "FAILED", "DATA_ACCESS_ERROR", "a\nb", "a\0b", "\N{SNOWMAN}\U0001f600", "\x1b[2J", "x" * 70_000]
    rows, wanted = [], []
    for job_id in sorted(chance.sample(range(1, 1 << 40), 300)):
        percent, shown = chance.choice(percents)
        state, task, exception = (chance.choice(texts) for _ in range(3))
        created, updated, complete = chance.choice(times), chance.choice(times), chance.random() < 0.5
        changes = {"state": state, "task": task, "exception": exception, "created": created, "updated": updated}
        rows.append(row(job_id, **changes, task_percent=percent, complete=int(complete)))
        wanted.append(answer(job_id, **changes, task_percent=shown, complete=complete))
    # What peewee reads as a time comes out as Python writes it, and all else as it is.
    odd = {"2026-11-23": "2026-11-23 00:00:00", "2026-11-23 1:2:3": "2026-11-23 01:02:03", "": ""}
    odd |= {"2026-11-23 01:02:03.5": "2026-11-23 01:02:03.500000", "2026-11-23 01:02:03.000000": "2026-11-23 01:02:03"}
    odd |= {text: text for text in ("2026-11-23T01:02:03", "2026-13-23 01:02:03", "2026-W47-1 01:02:03")}
    for job_id, (text, shown) in enumerate(odd.items(), start=1 << 41):
        rows.append(row(job_id, created=text))
        wanted.append(answer(job_id, created=shown))
    tally, told = imported(write_rows(old, rows), site)
    assert (tally.new, told) == (len(rows), [])
    with open_store(site.settings) as store:
        found = [store.imported(state["job_id"]) for state in wanted]
    assert [job.as_state() for job in found if job is not None] == wanted


def test_many_pages(site: Site, old: Path) -> None:
    ids = [*range(1, 2 * PAGE, 3), *range(10 * PAGE, 11 * PAGE)]
    assert imported(write_rows(old, map(row, ids)), site)[0] == Tally(read=len(ids), new=len(ids), last_id=ids[-1])
    write_rows(old, [row(ids[PAGE], **FAILED)])
    assert imported(old, site)[0].changed == 1


@pytest.mark.parametrize(
    "form", ["{path}", "sqlite:///{path}", "sqliteext:///{path}", "sqlite+pool:///{path}?timeout=5"]
)
def test_a_database_of_sqlite(site: Site, old: Path, form: str) -> None:
    write_rows(old, [row(1)])
    assert imported(form.format(path=old), site)[0].new == 1


def test_the_configuration_of_pacifica_ingest(site: Site, old: Path, tmp_path: Path) -> None:
    write_rows(old, [row(1)])
    config = tmp_path / "config.ini"
    config.write_text(
        f"[celery]\nbroker_url = pyamqp://u:p@h\n[database]\npeewee_url = sqliteext:///{old}\nmore = %%\n"
    )
    assert imported(config, site)[0].new == 1


def test_a_path_that_is_relative(
    command: Command, site: Site, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(old, [row(1)])
    assert command("import-jobs", "sqliteext:///db.sqlite3").returncode == 0
    done = command("import-jobs", "sqliteext:///other.sqlite3")
    assert done.returncode == ExitCode.FAILED
    assert done.stderr == (
        "ingest: there is no database other.sqlite3 in this folder; with four slashes a path is absolute\n"
    )


SECRET = "pa%ss;W0rd"
UNUSABLE = {
    "postgres://ada:{}@127.0.0.1:1/jobs": ExitCode.UNREACHABLE,
    "mysql://ada:{}@127.0.0.1:1/jobs": ExitCode.UNREACHABLE,
    "postgres://ada:{}@127.0.0.1:1/jobs?nonsense=yes": ExitCode.FAILED,
    "mysql://ada:{}@127.0.0.1:1/jobs?nonsense=yes": ExitCode.USAGE,
    "oracle://ada:{}@127.0.0.1:1/jobs": ExitCode.USAGE,
    "postgres://ada:{}@127.0.0.1:port/jobs": ExitCode.USAGE,
    "postgres://ada:{}@[::1/jobs": ExitCode.USAGE,
}


@pytest.mark.parametrize(("url", "code"), UNUSABLE.items())
@pytest.mark.parametrize("by", ["command line", "file"])
def test_no_message_holds_a_password(site: Site, tmp_path: Path, url: str, code: ExitCode, by: str) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("pymysql")
    url, config = url.format(SECRET), tmp_path / "config.ini"
    config.write_text(f"[database]\npeewee_url = {url.replace('%', '%%')}\n")
    with pytest.raises(IngestError) as caught:
        imported(url if by == "command line" else config, site)
    assert caught.value.exit_code == code
    # With --debug this is what is shown.
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", [f"[database]\npeewee_url = mysql://a:{SECRET}@h/d", f"{SECRET}", f"[{SECRET}"])
def test_no_message_about_a_configuration_holds_a_password(site: Site, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.ini").write_text(text)
    with pytest.raises(SettingsError) as caught:
        imported(tmp_path / "config.ini", site)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("scheme", "drivers"), [("postgres", ("psycopg", "psycopg2")), ("mysql", ("pymysql", "MySQLdb"))]
)
def test_a_driver_that_is_missing_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch, scheme: str, drivers: tuple[str, str]
) -> None:
    for driver in drivers:
        monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(SettingsError, match=rf"{' or '.join(drivers)} is needed .+ pacifica-ingest-cli\[{scheme}"):
        imported(f"{scheme}://ada@127.0.0.1/jobs", site)


NONE = {
    "another database": (b"CREATE TABLE other (id)", "no such table: ingeststate"),
    "another table": (b"CREATE TABLE ingeststate (id, state)", "has no column task, task_percent, exception"),
    "no database": (b"", "no such table: ingeststate"),
}


@pytest.mark.parametrize(("script", "reason"), NONE.values(), ids=NONE)
def test_what_is_no_job_database(site: Site, old: Path, script: bytes, reason: str) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(script.decode())
    with pytest.raises(IngestError, match=reason) as caught:
        imported(old, site)
    assert not caught.value.transient


def test_a_database_that_is_damaged(site: Site, old: Path) -> None:
    write_rows(old, map(row, range(1, 500)))
    with old.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(IngestError, match="malformed"):
        imported(old, site)


def test_a_database_that_somebody_has_locked_is_waited_for_later(
    site: Site, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_cli.maintenance.ingeststate.BUSY_SECONDS", 0.1)
    write_rows(old, [row(1)])
    with closing(sqlite3.connect(old, isolation_level=None)) as service:
        service.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IngestError, match="database is locked") as caught:
            imported(old, site)
    assert caught.value.transient
    assert imported(old, site)[0].new == 1
