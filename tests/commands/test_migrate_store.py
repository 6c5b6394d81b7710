"""``ingest migrate-store``: an installation at another place is what it was, and what is left is used no more."""

import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import ExitCode, IngestError
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.process import this_process, users_of
from ingest_cli.jobs.store import open_store
from ingest_cli.settings import Settings, load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.history import fill
from ..support.holders import DEAD
from ..support.ingeststate import row, write_rows
from ..support.recount import recounted, told
from ..support.site import Site
from ..support.stepping import Order, Stepper
from ..support.waiting import until

JOBS = 60
SEED = int(os.environ.get("INGEST_TEST_SEED", "1"))
NAMES = ("jobs.sqlite3", "ids.sqlite3", "catalogue.sqlite3")


@pytest.fixture
def old(site: Site, command: Command, tmp_path: Path) -> Path:
    """The folder of an installation that has been in use: jobs of all kinds, imported ones too, and stored files."""
    folder = site.catalog.parent
    folder.mkdir(parents=True)
    fill(folder / NAMES[0], JOBS, waiting=3)
    write_rows(tmp_path / "theirs.sqlite3", [row(1016), row(1017)])
    assert command("import-jobs", tmp_path / "theirs.sqlite3").returncode == 0
    assert command("-q", write_bundle(tmp_path / "b.tar")).returncode == 0
    return folder


def at(folder: Path) -> Settings:
    """The settings of the installation whose databases are in this folder."""
    return load_settings(environment={**os.environ, **variables(folder)})


def variables(folder: Path) -> dict[str, str]:
    jobs, ids, catalog = (folder / name for name in NAMES)
    return {"INGEST_DB": str(jobs), "UNIQUEID_URL": ids.as_uri(), "METADATA_INGEST_URL": catalog.as_uri()}


def content(folder: Path) -> dict[str, list[Any]]:
    """All that is in the databases."""
    found = {}
    for name in NAMES:
        with closing(sqlite3.connect(f"{(folder / name).as_uri()}?mode=rw", uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in tables:
                if table not in ("neighbours", "moved"):
                    found[f"{name} {table}"] = sorted(map(repr, connection.execute(f'SELECT * FROM "{table}"')))
    return found


def usable(folder: Path) -> bool:
    """Whether anybody can use what is there."""
    try:
        with open_store(at(folder), new=False) as store:
            return store.count() > 0
    except IngestError:
        return False


def test_it_is_what_it_was(command: Command, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(old)
    with open_store(at(old)) as store:
        counted = told(store)
    moved = command("migrate-store", f"sqlite:{old / NAMES[0]}", f"{tmp_path}/new/", "--json")
    assert moved.returncode == 0, moved.stderr
    stores = {one["name"]: one for one in json.loads(moved.stdout)["stores"]}
    assert stores["job store"]["tables"]["jobs"]["rows"] == JOBS + 4
    after = content(tmp_path / "new")
    reasons = {"jobs.sqlite3 failures", "jobs.sqlite3 reasons"}
    assert {name: rows for name, rows in after.items() if name not in reasons} == {
        name: rows for name, rows in before.items() if name not in reasons
    }
    with open_store(at(tmp_path / "new")) as store:
        assert told(store) == counted == recounted(store.select(limit=1000))
    # What names the old place is told of the new one.
    left = command("state")
    assert left.returncode == ExitCode.FAILED
    assert f"the job store {old / NAMES[0]} has moved to {tmp_path / 'new' / NAMES[0]}: have the" in left.stderr
    assert command("-q", write_bundle(tmp_path / "c.tar", {"data/c": b"c"})).stderr == left.stderr
    assert command("backup", "copies").stderr == left.stderr
    for variable, value in variables(tmp_path / "new").items():
        monkeypatch.setenv(variable, value)
    assert command("verify", 1018).returncode == 0
    assert command("-q", tmp_path / "c.tar").returncode == 0
    assert len(content(tmp_path / "new")["jobs.sqlite3 jobs"]) == JOBS + 5
    # Once more, from there.
    again = command("migrate-store", tmp_path / "new" / NAMES[0], f"{tmp_path}/third/")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("the same on both sides") == 3
    assert content(tmp_path / "third").keys() == before.keys()


def test_it_can_be_killed_anywhere(old: Path, tmp_path: Path) -> None:
    """As it begins, copies, and marks one database after the other."""
    visit(old, tmp_path, lambda last: [1, last // 3, *(last - before for before in (60, 30, 12, 6))])


@pytest.mark.sweep
def test_it_can_be_killed_at_every_step(old: Path, tmp_path: Path) -> None:
    """At one of sixteen, with each seed at others."""
    visit(old, tmp_path, lambda last: range(1 + SEED % 16, last, 16))


def visit(old: Path, tmp_path: Path, steps: Callable[[int], Iterable[int]]) -> None:
    """Kill it at these of its steps; the same command ends it each time as if it had never been killed."""
    whole = content(old)
    saved = {name: (old / name).read_bytes() for name in NAMES}
    new = tmp_path / "new"
    with Stepper() as stepper:

        def moved(step: int = 0) -> int:
            """Move it, as far as it is not killed at the step; how many steps that took."""
            words = ["migrate-store", "-q", str(old / NAMES[0]), f"{new}/"]
            done = stepper(Order(words=words, folder=str(tmp_path), environment=dict(os.environ), step=step))
            assert (done.status, bool(done.hit)) in ((0, False), (-signal.SIGKILL, True)), done.stderr
            return done.steps["main"]

        def put_back() -> None:
            for name in NAMES:
                (new / name).unlink()
                for left in old.glob(f"{name}*"):
                    left.unlink()
                (old / name).write_bytes(saved[name])

        last = moved()
        for step in steps(last):
            put_back()
            if moved(step) != step:  # it had to wait less often, and came to its end before
                assert step > last * 0.9
                break
            assert not (usable(old) and usable(new)), step
            if usable(old):  # it goes on there meanwhile
                with closing(sqlite3.connect(old / NAMES[0])) as connection, connection:
                    connection.execute("UPDATE jobs SET state = 'discarded', files = 9 WHERE job_id = 3")
                    connection.execute("DELETE FROM jobs WHERE job_id = 5")
            moved()
            assert usable(new), step
            assert not usable(old), step
            _assert_same(content(new), whole, step)


def _assert_same(after: dict[str, list[Any]], whole: dict[str, list[Any]], step: int) -> None:
    changed = after["jobs.sqlite3 jobs"] != whole["jobs.sqlite3 jobs"]
    assert len(after["jobs.sqlite3 jobs"]) == len(whole["jobs.sqlite3 jobs"]) - changed, step
    for table in ("jobs.sqlite3 stages", "ids.sqlite3 unique_index", "catalogue.sqlite3 Files"):
        assert after[table] == whole[table], (step, table)


def test_nobody_may_use_it_meanwhile(
    command: Command, old: Path, site: Site, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    (tmp_path / "drop").mkdir()
    watcher = starting("watch", tmp_path / "drop")
    until(lambda: users_of(old / NAMES[0]))
    refused = command("migrate-store", old / NAMES[0], f"{tmp_path}/new/")
    assert refused.returncode == ExitCode.UNREACHABLE, refused.stderr
    assert re.search(rf" is in use by .*\b{watcher.pid}\b.*: end what uses it first", refused.stderr)
    assert usable(old)
    watcher.kill()
    watcher.wait()
    with open_store(site.settings) as store:
        store.submit(900, kind=JobKind.BUNDLE, source="x", fingerprint="1", user="u", holder=this_process())
    refused = command("migrate-store", old / NAMES[0], f"{tmp_path}/new/")
    assert refused.returncode == ExitCode.UNREACHABLE
    assert f"job 900 is being worked on by {this_process()}: end the workers" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_what_is_empty_has_moved_too(command: Command, site: Site, tmp_path: Path) -> None:
    """And a job whose process died, which is resumed there."""
    assert command("-q", "--queue", write_bundle(tmp_path / "b.tar")).returncode == 0
    assert command("stats").returncode == 0
    with open_store(site.settings) as store:
        store.submit(9, kind=JobKind.BUNDLE, source="x", fingerprint="1", user="u", holder=DEAD)
    for said in ("the same on both sides", "had moved before"):
        done = command("migrate-store", site.database, f"{tmp_path}/new/")
        assert (done.returncode, said in done.stdout) == (0, True), done.stderr
    with open_store(at(tmp_path / "new")) as store:
        assert store.get(9).holder == DEAD
        assert store.lease(9).fence_number == 2


def test_it_overwrites_nothing(command: Command, old: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    fill(tmp_path / "new" / NAMES[0], 1)
    refused = command("migrate-store", old / NAMES[0], f"{tmp_path}/new/")
    assert refused.returncode == ExitCode.USAGE
    assert f"there is a job store {tmp_path / 'new' / NAMES[0]} already: move to a new place" in refused.stderr
    assert usable(old)
    absent = command("migrate-store", tmp_path / "absent", f"{tmp_path}/other/")
    assert (absent.returncode, "there is no " in absent.stderr) == (ExitCode.USAGE, True)


def test_services_are_not_moved(command: Command, old: Path, tmp_path: Path) -> None:
    (tmp_path / "new.ini").write_text(
        f"[database]\npath = {old / NAMES[0]}\n[uniqueid]\nurl = http://127.0.0.1:9\n"
        f"[metadata]\ningest_url = {(old / NAMES[2]).as_uri()}\n"
    )
    refused = command("migrate-store", old / NAMES[0], tmp_path / "new.ini")
    assert refused.returncode == ExitCode.USAGE
    said = f"the id store is not moved where it is a service over HTTP: {old / NAMES[1]} to http://127.0.0.1:9"
    assert said in refused.stderr
