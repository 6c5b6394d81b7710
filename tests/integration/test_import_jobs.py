"""Jobs of Pacifica Ingest are imported from real servers of the databases that it can have, by each driver."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from ingest_cli import api
from ingest_cli.errors import IngestError, ServiceUnavailable, SourceError
from ingest_cli.maintenance import ingeststate
from ingest_cli.maintenance.import_jobs import Tally
from ingest_cli.maintenance.ingeststate import PAGE

from ..support.databases import (
    make_postgres_database,
    mariadb_program,
    new_mariadb,
    new_postgres,
    postgres_answers,
    postgres_programs,
    running,
)
from ..support.ingeststate import CREATED, TABLE, UPDATED, answer, row
from ..support.loopback import free_port
from ..support.site import Site

pytestmark = pytest.mark.sweep
DRIVERS = ["psycopg", "psycopg2", "pymysql", "MySQLdb"]
POSTGRES = TABLE.replace("DATETIME", "TIMESTAMP").replace('"complete" INTEGER', '"complete" BOOLEAN')
MYSQL = TABLE.replace('"complete" INTEGER', '"complete" BOOL').replace('"', "`")
STORY = "Traceback:\n\N{SNOWMAN} % %s ' \\ \x1b[31m" + "x" * 9000


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database of PostgreSQL."""
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    folder, port = tmp_path_factory.mktemp("postgres"), free_port()
    with running(folder, new_postgres(folder / "data", port), lambda: postgres_answers(port)):
        make_postgres_database(port, "jobs")
        yield f"postgres://postgres:pa%ss@127.0.0.1:{port}/jobs"


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database of MariaDB."""
    driver = pytest.importorskip("pymysql")
    if mariadb_program() is None:
        pytest.skip("MariaDB is not installed")
    folder, port = tmp_path_factory.mktemp("mariadb"), free_port()

    def answers() -> bool:
        with suppress(driver.Error), closing(driver.connect(host="127.0.0.1", port=port, user="root")) as connection:
            connection.cursor().execute("CREATE DATABASE jobs CHARACTER SET utf8mb4")
            return True
        return False

    with running(folder, new_mariadb(folder / "data", port), answers):
        yield f"mysql://root@127.0.0.1:{port}/jobs"


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a database that one of the drivers is used for."""
    pytest.importorskip(request.param)
    others = ingeststate.POSTGRESQL_DRIVERS if request.param.startswith("psycopg") else ingeststate.MYSQL_DRIVERS
    for other in set(others) - {request.param}:
        monkeypatch.setitem(sys.modules, other, None)
    url: str = request.getfixturevalue("postgres" if request.param.startswith("psycopg") else "mariadb")
    return url


@pytest.fixture
def execute(url: str) -> Callable[..., None]:
    """Runs a statement in the database, as the service does; the table is there, and empty."""

    def run(statement: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        place = ingeststate._of_url(url)
        with closing(place.connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"
                if url.startswith("postgres")
                else "SET SESSION TRANSACTION READ WRITE"
            )
            if rows is None:
                cursor.execute(statement)
            else:
                cursor.executemany(statement, rows)

    run("DROP TABLE IF EXISTS ingeststate")
    run(POSTGRES if url.startswith("postgres") else MYSQL)
    return run


def insert(execute: Callable[..., None], *rows: dict[str, Any]) -> None:
    marks = ", ".join(["%s"] * len(rows[0]))
    values = [tuple({**each, "complete": True}.values()) for each in rows]
    execute(f"INSERT INTO ingeststate ({', '.join(rows[0])}) VALUES ({marks})", values)


def imported(url: str, site: Site) -> tuple[Tally, list[str]]:
    tally, told = Tally(), list[str]()
    for _ in api.import_jobs(url, tally=tally, note=told.append, settings=site.settings):
        pass
    return tally, told


def state_of(job_id: int, site: Site) -> dict[str, Any]:
    return api.find_imported_job(job_id, settings=site.settings).as_state()


def test_jobs_are_imported_as_they_are(url: str, execute: Callable[..., None], site: Site) -> None:
    failed = {"state": "FAILED", "task": "ingest files", "exception": STORY}
    insert(execute, row(1, task_percent=42.3), row(2, **failed), row(1 << 40))
    assert imported(url, site) == (Tally(read=3, new=3, unfinished=1, last_id=1 << 40), [])
    # As these systems give percents back, and MariaDB times.
    exact = {} if url.startswith("postgres") else {"created": CREATED[:19], "updated": UPDATED[:19]}
    assert state_of(1, site) == answer(1, task_percent="42.30000", **exact)
    assert state_of(2, site) == answer(2, **failed, task_percent="100.00000", **exact)
    execute("UPDATE ingeststate SET state = 'FAILED' WHERE id = 1")
    assert imported(url, site) == (Tally(read=3, changed=1, last_id=1 << 40), [])


def test_page_after_page(url: str, execute: Callable[..., None], site: Site) -> None:
    insert(execute, *(row(number) for number in range(1, 2 * PAGE + 2)))
    assert imported(url, site)[0] == Tally(read=2 * PAGE + 1, new=2 * PAGE + 1, last_id=2 * PAGE + 1)


def test_nothing_can_be_written(url: str, execute: Callable[..., None]) -> None:
    insert(execute, row(1))
    with (
        pytest.raises(IngestError, match=r"(?i)read.only"),
        ingeststate.opened(url) as table,
        closing(table._connection.cursor()) as cursor,
    ):
        cursor.execute("DELETE FROM ingeststate")


def test_rows_that_cannot_be_used(url: str, execute: Callable[..., None], site: Site) -> None:
    execute("DROP TABLE ingeststate")
    loose = (POSTGRES if url.startswith("postgres") else MYSQL).replace(" NOT NULL", "").replace(" PRIMARY KEY", "")
    execute(loose)
    insert(execute, row(1), row(None), row(3, state=None), row(-4), row(5))
    tally, told = imported(url, site)
    assert (tally.read, tally.new, tally.bad) == (5, 2, 3)
    assert told == [
        "job -4 is not imported: its id is -4",
        "job 3 is not imported: its state is missing",
        "1 row without a number for an id: not imported",
    ]


def test_there_is_no_such_table(url: str, execute: Callable[..., None], site: Site) -> None:
    execute("DROP TABLE ingeststate")
    with pytest.raises(SourceError, match=r"ingeststate") as caught:
        imported(url, site)
    assert "pa%ss" not in str(caught.value)


def test_there_is_no_such_database(url: str, site: Site) -> None:
    with pytest.raises(ServiceUnavailable, match="nothing"):
        imported(url.replace("/jobs", "/nothing"), site)


def test_options_of_peewee_and_of_the_driver(url: str, execute: Callable[..., None], site: Site) -> None:
    insert(execute, row(1))
    own = "application_name=ingest" if url.startswith("postgres") else "charset=utf8"
    assert imported(f"{url}?max_connections=20&stale_timeout=300&{own}", site)[0].new == 1
