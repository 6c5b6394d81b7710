"""``pacifica-ingest`` and ``pacifica-ingest-cmd``: what the units and scripts of a Pacifica site call still works."""

import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import requests

from ingest_cli.cli.cherrypy_config import Listening, listening
from ingest_cli.cli.old_names import administer, serve
from ingest_cli.errors import ExitCode, MetadataError, SettingsError
from ingest_cli.jobs.job import JobState

from ..support.bundles import FILES, write_bundle
from ..support.ingeststate import row, write_rows
from ..support.make_pages import MAN
from ..support.old_names import line, serving
from ..support.site import Site
from ..support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
BY_HAND = ["--state", "FAILED", "--task", "ingest files", "--task-percent", "0.0"]
# As the manual of Pacifica Ingest has it.
DOCUMENTED = """
[global]
log.screen: True
log.access_file: 'access.log'
log.error_file: 'error.log'
server.socket_host: '127.0.0.1'
server.socket_port: 8066

[/]
request.dispatch: cherrypy.dispatch.MethodDispatcher()
tools.response_headers.on: True
tools.response_headers.headers: [('Content-Type', 'application/json')]
"""


@pytest.fixture
def cmd(environment: Path) -> Any:
    """``pacifica-ingest-cmd`` with these words, run to its end."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(line("pacifica-ingest-cmd", *words), cwd=environment, capture_output=True, text=True)

    return run


def test_the_programs_are_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    for name in ("pacifica-ingest", "pacifica-ingest-cmd"):
        module, _, function = scripts[name].partition(":")
        assert function == name.replace("-", "_")
        assert callable(getattr(import_module(module), function))


def test_the_page_has_every_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (MAN / "pacifica-ingest.1").read_text("utf-8")
    named = {f"-{name}" for name in re.findall(r"\bFl (-?[a-z_-]+)", page)}
    for program, words in [(serve, ""), (administer, ""), *((administer, name) for name in ("job", "retry", "dbchk"))]:
        monkeypatch.setattr(sys, "argv", ["", *words.split(), "--help"])
        with pytest.raises(SystemExit):
            program()
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z_-]*", capsys.readouterr().out))
    assert named == known - {"-h", "--help", "-cmd"}


def test_the_store_is_made_and_checked(cmd: Any, site: Site) -> None:
    assert cmd("dbchk").returncode == 255
    assert not site.database.exists()
    done = cmd("dbsync")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert site.catalog.exists()
    done = cmd("dbchk", "--equal")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for version in (3, 99):
        with closing(sqlite3.connect(site.database)) as store:
            store.execute(f"PRAGMA user_version = {version}")
        assert cmd("dbchk").returncode == 255
        with closing(sqlite3.connect(site.database)) as store:
            assert store.execute("PRAGMA user_version").fetchone() == (version,), "nothing is changed"
    assert cmd("dbsync").returncode == ExitCode.FAILED, "a newer one cannot be brought up to date"


def test_a_job_is_failed_by_hand(cmd: Any, site: Site, tmp_path: Path) -> None:
    job = site.ingest(write_bundle(tmp_path / "b.tar"))
    done = cmd("job", "--job-id", job.job_id, *BY_HAND, "--exception", "Failed by administrator")
    assert (done.returncode, done.stdout) == (0, "")
    state = site.job(job.job_id).as_state()
    assert (state["state"], state["task"], state["exception"]) == ("FAILED", "ingest files", "Failed by administrator")
    assert cmd("job", "--job-id", 99, *BY_HAND).returncode == ExitCode.FAILED
    assert cmd("job", "--job-id", job.job_id, "--state", "FAILED").returncode == ExitCode.USAGE


def test_a_job_is_run_again(cmd: Any, site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", metadata=b"{}")
    with pytest.raises(MetadataError):
        site.ingest(bundle)
    done = cmd("retry", "--job_id", 1, "--path", bundle, "--username", "ada")
    assert (done.returncode, done.stdout) == (ExitCode.FAILED, "")
    assert "job 1 failed at 'load metadata'" in done.stderr
    bundle.unlink()
    done = cmd("retry", "--job_id", 1, "--path", write_bundle(tmp_path / "other.tar"))
    assert done.returncode == ExitCode.USAGE
    assert f"job 1 is of {bundle}: leave out --job_id to ingest" in done.stderr
    assert len(site.jobs()) == 1


def test_a_file_of_a_job_that_is_not_known_is_a_new_one(cmd: Any, site: Site, tmp_path: Path) -> None:
    for _ in write_rows_and_import(tmp_path, site):
        pass
    bundle = write_bundle(tmp_path / "1016.tar")
    done = cmd("retry", "--job_id", 1016, "--path", bundle, "--username", "ada")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "ingest: job 1017 is in place of job 1016, which is not one of this program\n"
    (job,) = site.jobs()
    assert (job.job_id, job.state, job.user) == (1017, JobState.COMPLETE, "ada")
    assert bundle.exists()
    assert site.contents() == FILES
    assert cmd("retry", "--job_id", 1016).returncode == ExitCode.USAGE


def write_rows_and_import(folder: Path, site: Site) -> Iterator[None]:
    from ingest_cli import api

    write_rows(folder / "db.sqlite3", [row(1016, state="FAILED")])
    return api.import_jobs(str(folder / "db.sqlite3"), settings=site.settings)


def test_without_a_command(cmd: Any) -> None:
    assert cmd().returncode == ExitCode.USAGE


def test_the_server_is_where_the_old_one_was(environment: Path, tmp_path: Path) -> None:
    config = tmp_path / "home" / ".pacifica-ingest" / "config.ini"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"[database]\npath = {tmp_path / 'site.sqlite3'}\npeewee_url = mysql://a:b@c/d\n[celery]\na = b\n"
    )
    (tmp_path / "cp.ini").write_text(DOCUMENTED.replace("8066", "0") + "[/x]\nmine = 1\n")
    with serving(tmp_path, "--cp-config", "cp.ini", "-a", "192.0.2.1", "-p", 1) as (url, log):
        assert requests.get(url, timeout=PATIENCE).json() == {"message": "Pacifica Ingest Up and Running"}
        said = log.read_text()
    assert "cp.ini: no effect here: log.screen, log.access_file, log.error_file, mine\n" in said
    assert "warning: [policy] ingest_url is not set: no service is asked" in said
    assert (tmp_path / "site.sqlite3").exists(), "its configuration was found where the old one looks for it"


def test_an_address_that_anyone_can_reach_needs_credentials(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "cp.ini").write_text(DOCUMENTED.replace("127.0.0.1", "0.0.0.0"))
    done = subprocess.run(line("pacifica-ingest", "--cp-config", tmp_path / "cp.ini"), capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE
    assert "anyone who can reach 0.0.0.0 could store bundles" in done.stderr


def test_the_file_of_cherrypy_goes_before_the_options(tmp_path: Path) -> None:
    path = tmp_path / "cp.ini"
    path.write_text(DOCUMENTED + "server.socket_port: 1\n")  # which is no port, where it stands in [/]
    assert listening(path, "elsewhere", 99, required=True) == Listening(
        "127.0.0.1", 8066, None, None, ("log.screen", "log.access_file", "log.error_file", "server.socket_port")
    )
    path.write_text("[global]\nserver.max_request_body_size = 5000\n")
    assert listening(path, "here", 99, required=True) == Listening("here", 99, most=5000)
    path.write_text("[global]\nserver.socket_file: '/run/ingest'\nserver.socket_host: None\n")
    assert listening(path, "here", 99, required=True) == Listening("here", 99, Path("/run/ingest"))
    path.write_text("[global]\nserver.max_request_body_size = 0\n")
    assert listening(path, "here", 99, required=True).most is None
    assert listening(tmp_path / "none.ini", "here", 99, required=False) == Listening("here", 99)


MISSED = {
    "TLS": ("[global]\nserver.ssl_certificate: 'x.pem'", "ssl_certificate: this server does not speak TLS"),
    "passwords": ("[/]\ntools.auth_basic.on: True", "tools.auth_basic.on: CherryPy's tools are not there"),
    "digests": ("[/upload]\ntools.auth_digest.on = 1", "tools.auth_digest.on: CherryPy's tools are not there"),
    "a number for a host": ("[global]\nserver.socket_host: 1", "socket_host is not a name in quotes"),
    "a port that is none": ("[global]\nserver.socket_port: 99999", "socket_port is not a number"),
    "a name for a port": ("[global]\nserver.socket_port: os.environ['PORT']", "socket_port is not a number"),
    "a negative size": ("[global]\nserver.max_request_body_size: -1", "max_request_body_size is not a number"),
    "no section": ("server.socket_port: 1", "is not a configuration file for CherryPy"),
    "no text": ("\udcff", "is not a configuration file for CherryPy"),
}


@pytest.mark.parametrize(("text", "message"), MISSED.values(), ids=MISSED)
def test_what_would_be_missed_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cp.ini"
    path.write_bytes(os.fsencode(text))
    with pytest.raises(SettingsError, match=re.escape(message)):
        listening(path, "localhost", 8066, required=True)


@pytest.mark.parametrize("text", ["tools.auth_basic.on: False", "server.ssl_certificate: None"])
def test_what_is_switched_off_is_not_missed(tmp_path: Path, text: str) -> None:
    (tmp_path / "cp.ini").write_text(f"[global]\n{text}\n")
    assert listening(tmp_path / "cp.ini", "localhost", 8066, required=True).host == "localhost"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*none\.ini"):
        listening(tmp_path / "none.ini", "localhost", 8066, required=True)
