"""What every test stands on: a scrubbed environment and a site of its own."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ingest_cli.settings import PostgresUrl

from .support.command import Command
from .support.environment import scrub
from .support.forks import FORKS, Running
from .support.leftovers import MARK, Leftovers, can_look
from .support.mounts import Mount, mounting
from .support.object_stores import ObjectServer, lacking, rclone, seaweedfs
from .support.pacifica_double import PacificaSite
from .support.postgres import PostgresServer, serving_postgres
from .support.site import Site

# A slow machine is no failure, and nothing is to be left in the folder where the tests are started.
settings.register_profile("ingest", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("ingest")


def pytest_configure() -> None:
    """Have Ctrl-C be heeded as at a terminal, though the tests may run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `scrub` leaves of the variables."""
    scrub(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def site(environment: Path) -> Site:
    """A site with nothing configured, used from Python."""
    return Site(environment / "data" / "pacifica-ingest-cli")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session fails where its tests leave a process, a mount or a temporary file behind."""
    own, temporary = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("tmp")
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.environ[MARK] = f"{os.getpid()} {time.time_ns()}"
    FORKS.begin(os.environ)
    leftovers = Leftovers(own, temporary)
    yield
    FORKS.close()
    left = leftovers.found()
    assert not left, "the tests left behind:\n" + "\n".join(left)


@pytest.fixture(scope="session")
def strict_storage(tmp_path_factory: pytest.TempPathFactory, nothing_is_left: None) -> Iterator[ObjectServer]:
    """Storage that speaks S3, which all tests of the session share; each asks for a bucket of its own."""
    if missing := lacking():
        pytest.skip(missing)
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def lax_storage(tmp_path_factory: pytest.TempPathFactory, nothing_is_left: None) -> Iterator[ObjectServer]:
    """Storage that speaks S3, but knows no conditional writes."""
    if missing := lacking():
        pytest.skip(missing)
    with rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A failure that shows a name which is not UTF-8 would end the whole session, where it is handed on by xdist."""
    report = yield
    if report is None or report["$report_type"] != "TestReport" or report["outcome"] != "failed":
        return report
    return json.loads(json.dumps(report, default=str, ensure_ascii=False).encode(errors="replace"))


def pytest_report_header() -> list[str]:
    """Say what is not looked for."""
    return [] if can_look() else ["not looked for: processes and mounts that tests leave behind (there is no /proc)"]


@pytest.fixture(scope="session")
def postgres_server(nothing_is_left: None) -> Iterator[PostgresServer]:
    """The session's server of PostgreSQL. A test that stops it starts it again."""
    with serving_postgres() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresUrl:
    """A new database of PostgreSQL."""
    return postgres_server.new_database()


@pytest.fixture
def command(environment: Path) -> Command:
    """The command line, in a process of its own."""
    return Command(environment)


@pytest.fixture
def starting(command: Command) -> Iterator[Callable[..., Running]]:
    """Starts a command; whatever still runs at the end of the test is killed."""
    started: list[Running] = []

    def start(*words: object, **options: Any) -> Running:
        started.append(command.start(*words, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts disks for the test."""
    with mounting() as mount:
        yield mount


@pytest.fixture
def pacific(monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    """A Pacifica site that the environment names."""
    with PacificaSite() as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        yield server
