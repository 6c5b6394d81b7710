"""Every message of many hosts in ingest-troubleshooting(7) is one that the program prints, for the cause given there;
and those that their rooms raise are there."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import ingest_cli
from ingest_cli import errors
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.stages import LOAD_METADATA
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.settings import PostgresUrl, load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.hosts import host, skip_unless_possible
from ..support.messages import OF_MANY_HOSTS, PLACEHOLDER, Scene, is_said, messages_of
from ..support.postgres import PostgresServer, bouncing
from ..support.site import Site

pytestmark = pytest.mark.cluster
MESSAGES = messages_of(OF_MANY_HOSTS)
NOWHERE = "postgresql://ingest@127.0.0.1:1/ingest"
TOP = Path(ingest_cli.__file__).parent
ROOMS = (
    *("jobs/queues.py", "jobs/task_queue.py", "jobs/postgres*.py", "jobs/procrastinate*.py", "services/postgres*.py"),
    *("services/postgres/*.py", "spool/*.py", "maintenance/cluster.py", "settings/cluster.py", "settings/s3.py"),
)
# What says by itself what to do, or stands with those of one host.
ELSEWHERE = (
    *("PostgreSQL needs: pip install", "needs a job store on PostgreSQL", "is not postgresql://USER@HOST/DATABASE"),
    *("s3:// needs [s3]", "neither path nor host", "has a prefix that cannot be used", "cannot be reached"),
    *("is not there, or is not what was written", "free, * in reserve", "* needs: * (*)"),
)


@dataclass(frozen=True, slots=True)
class Many:
    """Where a message of many hosts is provoked."""

    scene: Scene
    server: PostgresServer
    url: PostgresUrl

    def store(self) -> JobStore:
        return open_store(load_settings())

    def queued(self, name: str) -> None:
        """Have a job wait for the host of this name."""
        self.scene.environment.setenv("INGEST_HOST", name)
        self.scene.says("ingest", "-q", "--queue", write_bundle(self.scene.folder / "b.tar"), code=0)

    def wrong(self, *, words: tuple[str, ...] = ("state",), **variables: str) -> str:
        """What is said where the environment has these variables."""
        for name, value in variables.items():
            self.scene.environment.setenv(name, value)
        return self.scene.says(*words, code=2)

    def retried_from_storage(self, source: str, code: int) -> str:
        """What is said of a job whose upload is in storage that is never asked."""
        self.in_storage(INGEST_SHARED_SPOOL="s3://uploads")
        with self.store() as store:
            store.submit(
                1, kind=JobKind.BUNDLE, source=source, fingerprint="1", user="u", holder=None, spooled=True
            )  # fmt: skip
        return self.scene.says("retry", 1, code=code)

    def in_storage(self, **variables: str) -> None:
        keys = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        for name, value in {**keys, **variables}.items():
            self.scene.environment.setenv(name, value)

    def found(self, code: int) -> str:
        """What doctor finds, without the names of its checks."""
        done = self.scene.command("doctor")
        assert done.returncode == code, done.stdout
        return re.sub(r"^FAIL .{13}", "", done.stdout, flags=re.M)


Provocation = Callable[[Many], str]
PROVOCATIONS: dict[str, Provocation] = {}


def provokes(message: str) -> Callable[[Provocation], Provocation]:
    def note(provocation: Provocation) -> Provocation:
        PROVOCATIONS[message] = provocation
        return provocation

    return note


@pytest.fixture
def many(
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
) -> Many:
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, postgres.text)
    return Many(Scene(command, site, tmp_path, monkeypatch), postgres_server, postgres)


def test_every_message_is_provoked_and_no_other() -> None:
    assert list(PROVOCATIONS) == MESSAGES


def raised() -> Iterator[str]:
    """What these rooms raise, with what is different each time as ``*``, as far as it is written there."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    for path in (path for room in ROOMS for path in TOP.glob(room)):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                yield from filter(None, map(_template, node.args[:1]))


def _template(node: ast.expr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts]
    # One that is nothing but what others say is theirs.
    return "".join(texts) if re.search(r"\w{3}", "".join(texts).removesuffix(" now: *")) else ""


def test_what_is_raised_is_in_the_manual() -> None:
    known = [PLACEHOLDER.sub("*", message) for message in MESSAGES]
    missing = [
        text
        for text in raised()
        if not any(_is_like(text, message) for message in known)
        and not any(_is_like(f"*{one}*", text) for one in ELSEWHERE)
    ]
    assert not missing


def _is_like(template: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, template.split("*"))), text) is not None


@pytest.mark.parametrize("message", MESSAGES)
def test_the_program_says_it(many: Many, message: str) -> None:
    said = PROVOCATIONS[message](many)
    assert is_said(message, said), said


@provokes("*PLACE*: [*SECTION*] *KEY*: *VALUE* is not the name of a host, of up to 32 characters")
def a_host_of_two_words(many: Many) -> str:
    return many.wrong(INGEST_HOST="my host")


@provokes("this machine's name *NAME* cannot be that of a queue: set [cluster] host")
def a_machine_with_a_long_name(many: Many) -> str:
    place = host("a-machine" * 4)
    skip_unless_possible(place)
    line = many.scene.command.line(write_bundle(many.scene.folder / "b.tar"))
    done = subprocess.run([*place, *line], capture_output=True, text=True)
    assert done.returncode == 2
    return done.stderr


@provokes("*PLACE*: [*SECTION*] *KEY*: *URL* is not s3://BUCKET/PREFIX")
def no_bucket(many: Many) -> str:
    return many.wrong(INGEST_SHARED_SPOOL="s3:uploads")


@provokes("*PLACE*: [*SECTION*] *KEY*: *URL* is not http(s)://HOST or http(s)://HOST:PORT")
def an_endpoint_with_a_path(many: Many) -> str:
    many.in_storage(ARCHIVEINTERFACE_URL="s3://data")
    return many.wrong(AWS_ENDPOINT_URL="http://127.0.0.1/data")


@provokes("*PLACE*: [*SECTION*] *KEY*: *URL* and the archive *URL* lie one in the other")
def a_spool_in_the_archive(many: Many) -> str:
    many.in_storage(ARCHIVEINTERFACE_URL="s3://data/a")
    return many.wrong(INGEST_SHARED_SPOOL="s3://data/a/spool")


@provokes("*URL* is no URL that PostgreSQL takes: a blank in it, or in its password, is %20, and a % is %25")
def a_parameter_that_is_none(many: Many) -> str:
    return many.wrong(INGEST_DATABASE_URL=f"{NOWHERE}?colour=red")


@provokes("the *STORE* in *DATABASE* cannot be made: the encoding of the database is not UTF8")
def a_database_of_ascii(many: Many) -> str:
    many.server.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    many.scene.environment.setenv("INGEST_DATABASE_URL", many.server.url("ascii").text)
    return many.scene.ingest()


@provokes(
    "--priority needs a job store on PostgreSQL: set [database] url (INGEST_DATABASE_URL);"
    " that of one host runs the oldest job first"
)
def a_priority_on_one_host(many: Many) -> str:
    return many.wrong(words=("ingest", "--priority", "1", "b.tar"), INGEST_DATABASE_URL="")


@provokes("job *ID* is *STATE*: a priority is of jobs that are to be run")
def a_priority_of_what_has_ended(many: Many) -> str:
    many.scene.ingest(code=0)
    return many.scene.says("job", "--job-id", 1, "--priority", 90)


@provokes("job *ID* waits for a worker of *HOST*, on whose disk its files are")
def a_job_of_another_host(many: Many) -> str:
    many.queued("here")
    many.scene.environment.setenv("INGEST_HOST", "there")
    return many.scene.says("retry", 1, code=4)


@provokes("*NUMBER* of project *PROJECT* may run at once")
def a_project_at_its_limit(many: Many) -> str:
    many.scene.environment.setenv("INGEST_JOBS_PER_PROJECT", "1")
    with many.store() as store:
        held = store.submit(
            99, kind=JobKind.BUNDLE, source="/x", fingerprint="1", user="u", holder=this_process()
        )  # fmt: skip
        assert store.admit(held.fence, "1234a", 1)
        said = many.scene.ingest(code=4)
        store.undo(held.fence, JobState.FAILED, LOAD_METADATA, "no")
    return said


@provokes("*URL* is not in the shared spool of this host, *PLACE*")
def an_upload_of_another_spool(many: Many) -> str:
    return many.retried_from_storage("s3://others/1", code=4)


@provokes("*URL* is not in the spool any more")
def an_upload_that_is_gone(many: Many) -> str:
    return many.retried_from_storage("s3://uploads/1", code=1)


@provokes("nothing to copy: all is in *URL*, which pg_dump copies")
def a_copy_of_a_database(many: Many) -> str:
    many.scene.ingest(code=0)
    return many.scene.says("backup", "copy", code=2)


@provokes("job *ID* waits for a worker of *HOST*, on whose disk its files are: let it end first")
def a_job_of_another_host_in_a_store_that_is_moved(many: Many) -> str:
    many.queued("here")
    many.scene.environment.setenv("INGEST_HOST", "there")
    return many.scene.says("migrate-store", many.url.text, "new", code=4)


@provokes("*PROCESS* is at work, process *ID* of *HOST*: end the workers, servers and watchers first")
def a_worker_of_a_store_that_is_moved(many: Many) -> str:
    many.scene.ingest(code=0)
    with many.store() as store:
        assert store.attendance is not None
        store.attendance.enter(this_process(), "here", "worker")
        return many.scene.says("migrate-store", many.url.text, "new", code=4)


@provokes("there is a *STORE* *FILE* already: move to a new place")
def a_place_that_is_taken(many: Many) -> str:
    many.scene.ingest(code=0)
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        many.scene.environment.setenv(variable, "")
    many.scene.environment.setenv("ARCHIVEINTERFACE_URL", (many.scene.folder / "other").as_uri())
    many.scene.ingest(code=0)
    return many.scene.says("migrate-store", many.scene.site.database, many.url.text, code=2)


@provokes("LISTEN does not get through to *URL*: does PgBouncer pool transactions?")
def a_pooler(many: Many) -> str:
    with bouncing(many.server) as port:
        pooled = many.server.url(many.url.text.rpartition("/")[2], port=port).text
        many.scene.environment.setenv("INGEST_DATABASE_URL", pooled)
        return many.found(1)


@provokes("*URL*: *NUMBER* connections in use: workers that start may find none")
def few_connections(many: Many) -> str:
    import psycopg

    with ExitStack() as stack:
        for _ in range(245):
            stack.enter_context(psycopg.connect(many.url.text))
        return many.found(4)


@provokes("*QUEUE*: *NUMBER* waiting, and no worker runs on *HOST*")
def a_queue_without_workers(many: Many) -> str:
    many.queued("here")
    return many.found(1)
