"""The real Pacifica services on free ports of loopback, each a process of its own.

INGEST_TEST_PACIFICA names a folder made by ``.ci/pacifica``: a virtual environment ``venv`` with the released
services and ``fixtures``, the records that the metadata service's own tests load. PostgreSQL comes from the system.
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..support.databases import make_postgres_database, new_postgres, postgres_answers
from ..support.loopback import LoopbackServer, QuietHandler, free_port

START_SECONDS = 60
CHERRYPY = """
[global]
server.socket_host: '127.0.0.1'
server.socket_port: {port}
server.max_request_body_size: 0
engine.autoreload.on: False
[/]
request.dispatch: cherrypy.dispatch.MethodDispatcher()
tools.response_headers.on: True
tools.response_headers.headers: [('Content-Type', 'application/json')]
"""


class PacificaServices:
    """Started in order, stopped all together; a single one can be stopped, killed and started again."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._bin, self._fixtures, self._folder = home / "venv/bin", home / "fixtures", folder
        names = ("postgres", "uniqueid", "archiveinterface", "metadata", "policy", "ingest")
        self.ports = {name: free_port() for name in names}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.archive = folder / "archive"
        self.archive.mkdir()
        for name, port in self.ports.items():
            self._config(name).write_text(CHERRYPY.format(port=port))

    def program(self, name: str) -> str:
        """Where a program of the virtual environment is."""
        return str(self._bin / name)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def environment(self) -> dict[str, str]:
        return {
            "UNIQUEID_URL": self.url("uniqueid"),
            "POLICY_INGEST_URL": self.url("policy") + "/ingest",
            "ARCHIVEINTERFACE_URL": self.url("archiveinterface"),
            "METADATA_INGEST_URL": self.url("metadata") + "/ingest",
        }

    def start_all(self) -> None:
        self._start_postgres()
        self._run("pacifica-uniqueid-cmd", "dbsync", PEEWEE_URL=self._ids())
        self._run("pacifica-metadata-cmd", "dbsync", PEEWEE_URL=self._metadata())
        for name in ("uniqueid", "archiveinterface", "metadata", "policy"):
            self.start(name)
        self._load_fixtures()

    @property
    def has_ingest(self) -> bool:
        return (self._bin / "pacifica-ingest").exists()

    @property
    def jobs(self) -> str:
        """Where the jobs of Pacifica Ingest are."""
        return f"postgres://postgres@127.0.0.1:{self.ports['postgres']}/pacifica_ingest"

    def start_ingest(self) -> None:
        """Start Pacifica Ingest itself: its server, and the worker that runs its jobs one after the other."""
        folder = self._folder / "ingest"
        for name in ("queue", "volume"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        # Its broker is a folder, in which each of the two finds what the other has left.
        for name in ("data_in", "data_out"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to("queue")
        own = {"PEEWEE_URL": self.jobs, "BROKER_URL": "filesystem://", "BACKEND_URL": "cache+memory://"}
        own |= {"VOLUME_PATH": str(folder / "volume"), **self.environment()}
        self._run("pacifica-ingest-cmd", "dbsync", **own)
        server = [self.program("pacifica-ingest"), "-a", "127.0.0.1", "-p", str(self.ports["ingest"])]
        self._spawn("ingest", server, lambda: answers(self.url("ingest")), folder=str(folder), **own)
        worker = ["-m", "celery", "-A", "pacifica.ingest.tasks", "worker", "--pool", "solo", "--without-mingle"]
        worker += ["--without-gossip", "--loglevel", "info"]
        ready = self._folder / "worker.log"
        self._spawn(
            "worker",
            [self.program("python"), *worker],
            lambda: " ready." in ready.read_text(),
            folder=str(folder),
            **own,
        )

    def state(self, job_id: int) -> dict[str, Any]:
        """What Pacifica Ingest answers for a job, be it that its server is stopped."""
        ask = (
            "import json; from pacifica.ingest.orm import read_state;"
            "from pacifica.ingest.utils import create_state_response;"
            f"print(json.dumps(create_state_response(read_state({job_id}))))"
        )
        environment = self._environment(PEEWEE_URL=self.jobs)
        done = subprocess.run(
            [self.program("python"), "-c", ask], env=environment, check=True, capture_output=True, cwd="/"
        )
        state: dict[str, Any] = json.loads(done.stdout)
        return state

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A service that takes connections and does not answer, until the block ends."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @property
    def has_uwsgi(self) -> bool:
        return (self._bin / "uwsgi").exists()

    def start(self, name: str, *, uwsgi: bool = False, notifications: str | None = None) -> None:
        """Start a service; the metadata service sends ``notifications`` there, or none."""
        words = [f"pacifica-{name}", "-a", "127.0.0.1", "-p", str(self.ports[name])]
        extra = {} if notifications is None else {"NOTIFICATIONS_URL": notifications, "NOTIFICATIONS_DISABLED": "no"}
        if uwsgi:
            words = ["uwsgi", "--http-socket", f"127.0.0.1:{self.ports[name]}", "--master", "--die-on-term"]
            words += ["--processes", "4", "--module", "pacifica.archiveinterface.wsgi", "--disable-logging"]
            extra |= {"PAI_BACKEND_TYPE": "posix", "PAI_PREFIX": str(self.archive)}
        elif name == "archiveinterface":
            words += ["-t", "posix", "--prefix", str(self.archive)]
        elif name == "uniqueid":
            extra["PEEWEE_URL"] = self._ids()
        elif name == "metadata":
            extra["PEEWEE_URL"] = self._metadata()
        probe = self.url(name) + ("/groups" if name == "metadata" else "/")
        self._spawn(name, [str(self._bin / words[0]), *words[1:]], lambda: answers(probe), **extra)

    def is_running(self, name: str) -> bool:
        return name in self._processes

    def stop(self, name: str, *, kill: bool = False) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        for name in reversed(list(self._processes)):
            self.stop(name)

    def _start_postgres(self) -> None:
        port = self.ports["postgres"]
        self._spawn("postgres", new_postgres(self._folder / "postgres", port), lambda: postgres_answers(port))
        for name in ("pacifica_metadata", "pacifica_ingest"):
            make_postgres_database(port, name)

    def _config(self, name: str) -> Path:
        return self._folder / f"{name}.conf"

    def _ids(self) -> str:
        return f"sqliteext:///{self._folder}/uniqueid.sqlite3"

    def _metadata(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.ports['postgres']}/pacifica_metadata"

    def _load_fixtures(self) -> None:
        (script,) = self._fixtures.glob("*/tests/test_files/loadit_test.py")
        with (self._folder / "fixtures.log").open("wb") as log:
            subprocess.run(
                [self._bin / "python", script], env=self._environment(), stdout=log, stderr=log, check=True, cwd="/"
            )
        for mode in ("file", "upload_job"):  # the fixtures own the low ids
            urllib.request.urlopen(f"{self.url('uniqueid')}/getid?range=1000&mode={mode}").close()

    def _environment(self, **extra: str) -> dict[str, str]:
        own = {"NOTIFICATIONS_DISABLED": "True", "ADMIN_USER_ID": "10", **extra}
        own |= {"METADATA_URL": self.url("metadata"), "STATUS_URL": self.url("metadata") + "/groups"}
        for name in self.ports:
            own |= {f"{name.upper()}_CPCONFIG": str(self._config(name)), f"{name.upper()}_CONFIG": "/nonexistent"}
        return {"PATH": os.environ["PATH"], "HOME": str(self._folder), "LANG": "C.UTF-8", **own}

    def _run(self, command: str, *words: str, **extra: str) -> None:
        with (self._folder / "setup.log").open("ab") as log:
            subprocess.run(
                [self._bin / command, *words], env=self._environment(**extra), check=True, stdout=log, stderr=log,
                cwd="/",
            )  # fmt: skip

    def _spawn(self, name: str, words: list[str], ready: Callable[[], bool], folder: str = "/", **extra: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(words, env=self._environment(**extra), stdout=log, stderr=log, cwd=folder)
        self._processes[name] = process
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._folder / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} did not start: {log_text[-2000:]}")
            time.sleep(0.1)


class LosingAnswers(LoopbackServer):
    """Stands before the service at ``url``; once a PUT went through, calls ``then`` and loses the answer."""

    def __init__(self, url: str, then: Callable[[], None]) -> None:
        super().__init__(_Forwarder)
        self.behind, self.then = url, then


class _Forwarder(QuietHandler):
    server: LosingAnswers

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        request = urllib.request.Request(
            self.server.behind + self.path, body, {"Content-Type": "application/json"}, method=self.command
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, answer = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
            error.close()
        except OSError:
            self.close_connection = True
            return
        if self.command == "PUT":
            self.server.then()
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = forward


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def ask(services: PacificaServices, path: str) -> Any:
    with urllib.request.urlopen(services.url("metadata") + path, timeout=60) as response:
        return json.load(response)


def assert_stored(services: PacificaServices, job_id: int, files: dict[str, bytes]) -> None:
    records = ask(services, f"/files?transaction_id={job_id}")
    stored = {
        "/".join(filter(None, ["data", record["subdir"], record["name"]])): (
            services.archive / str(record["_id"])
        ).read_bytes()
        for record in records
    }
    assert stored == files
    assert len(records) == len(files)
