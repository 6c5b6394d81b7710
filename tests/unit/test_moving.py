"""What is moved of an installation is all of it: every table and column that there is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest_cli.errors import SettingsError, StoreError
from ingest_cli.jobs import moved
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.sqlite_database import open_database
from ingest_cli.maintenance.moving.places import MIGRATIONS, pairs_of, places_of, source_of, target_of
from ingest_cli.maintenance.moving.tables import CATALOG, IDS, JOBS, TABLES
from ingest_cli.services.embedded.catalog import EmbeddedCatalog
from ingest_cli.services.embedded.uniqueid import EmbeddedUniqueId
from ingest_cli.settings import Settings, Timings, load_settings

# What the store finds out itself, from what is moved.
DERIVED = {"counts", "days", "failures", "reasons"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(environment={"XDG_DATA_HOME": str(tmp_path)})


@pytest.mark.parametrize("what", MIGRATIONS)
def test_every_table_is_moved(what: str, tmp_path: Path) -> None:
    with closing(open_database(tmp_path / "new", MIGRATIONS[what], what)) as database:
        named = {table.name for table in TABLES[what]}
        assert set(moved.tables_of(database.conn)) - DERIVED == named
        for table in TABLES[what]:
            columns = database.conn.execute(f'PRAGMA table_info("{table.name}")').fetchall()
            assert {column[1] for column in columns if column[5]} == set(table.identity) or table.is_replaced


def test_a_program_that_has_it_open_changes_nothing_of_what_has_moved(tmp_path: Path) -> None:
    jobs, ids, catalog = (tmp_path / name for name in ("jobs", "ids", "catalogue"))
    with (
        SqliteJobStore(jobs, Timings()) as store,
        closing(EmbeddedUniqueId(ids)) as unique_id,
        closing(EmbeddedCatalog(catalog)) as a_catalog,
    ):
        store.submit(1, kind=JobKind.BUNDLE, source="a", fingerprint="1", user="u", holder=None)
        for what, path in ((JOBS, jobs), (IDS, ids), (CATALOG, catalog)):
            with closing(sqlite3.connect(path)) as connection, connection:
                moved.mark_moved(connection, f"{what} {path}", "postgresql://db/it's")
        for change in (
            lambda: store.submit(2, kind=JobKind.BUNDLE, source="b", fingerprint="1", user="u", holder=None),
            lambda: store.lease(1),
            store.lease_next,
            lambda: store.note_archive("another"),
            lambda: unique_id.reserve("file", 1),
            lambda: a_catalog.bar(1, range(1), 1),
        ):
            with pytest.raises(StoreError, match="has moved to postgresql://db/it's: have the configuration name that"):
                change()
        assert [job.job_id for job in store.select()] == [1]
    for what, path in ((JOBS, jobs), (IDS, ids), (CATALOG, catalog)):
        with pytest.raises(StoreError, match=f"the {what} {path} has moved to postgresql://db/it's"):
            open_database(path, MIGRATIONS[what], what)
        # An earlier program, which knows of no marks, takes it for one of a newer version.
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone()[0] > len(MIGRATIONS[what])


def test_what_is_named(settings: Settings, tmp_path: Path) -> None:
    """A job store alone, and configuration files."""
    jobs = settings.database
    for name in (str(jobs), f"sqlite:{jobs}", f"sqlite:///{jobs}"):
        assert places_of(source_of(name, settings))[JOBS] == jobs
    target = target_of(f"{tmp_path}/other/", settings)
    names = {JOBS: "jobs.sqlite3", IDS: "ids.sqlite3", CATALOG: "catalogue.sqlite3"}
    assert places_of(target) == {what: tmp_path / "other" / name for what, name in names.items()}
    assert [side.place for _, side in pairs_of(settings, target)][-1] == str(tmp_path / "other" / "jobs.sqlite3")
    config = tmp_path / "new.ini"
    config.write_text(f"[database]\npath = {jobs}\n[uniqueid]\nurl = file://{tmp_path}/ids\n")
    # By its configuration: here only the ids are at another place.
    assert isinstance(settings.catalog, Path)
    config.write_text(f"{config.read_text()}[metadata]\ningest_url = {settings.catalog.as_uri()}\n")
    ((_, ids),) = pairs_of(settings, target_of(str(config), settings))
    assert (ids.what, ids.place) == (IDS, f"{tmp_path}/ids")


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("mysql://host/db", "new", "'mysql' is no database: give a file"),
        ("sqlite:", "new", "names no database"),
        ("absent.ini", "new", "cannot read absent.ini"),
        ("new.ini", "new.ini", "nothing is to be moved"),
    ],
)
def test_what_cannot_be_named(
    settings: Settings, tmp_path: Path, source: str, target: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new.ini").touch()
    with pytest.raises(SettingsError, match=why):
        pairs_of(old := source_of(source, settings), target_of(target, old))
