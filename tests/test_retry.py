"""``ingest retry``: a job runs again under its own id, from where it stopped or from the start."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from ingest_cli.database import open_database
from ingest_cli.jobs.schema import MIGRATIONS

from .bundles import FILES, document_for, write_bundle
from .conftest import Command
from .site import Site


def refuse_projects(folder: Path) -> Path:
    """A policy that refuses every document."""
    policy = folder / "policy.json"
    policy.write_text("false")
    return policy


@pytest.fixture
def failed(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that the policy refused; it would not any more."""
    bundle = write_bundle(tmp_path / "b.tar")
    with monkeypatch.context() as patch:
        patch.setenv("POLICY_INGEST_URL", refuse_projects(tmp_path).as_uri())
        assert command(bundle).returncode == 1
    return bundle


def test_a_failed_job_runs_again_under_its_own_id(command: Command, site: Site, failed: Path) -> None:
    done = command("retry", 1)
    assert done.returncode == 0, done.stderr
    (job,) = site.jobs()
    assert (job.job_id, job.is_done, job.attempts) == (1, True, 2)
    assert site.contents() == FILES


def test_all_failed_jobs_run_again(command: Command, site: Site, failed: Path, tmp_path: Path) -> None:
    files = {"data/other": b"other"}
    assert command(write_bundle(tmp_path / "damaged.tar", {"data/other": b"o"}, document_for(files))).returncode == 1
    done = command("retry", "--failed", "--json")
    assert done.returncode == 3
    assert [(job["job_id"], job["complete"]) for job in map(json.loads, done.stdout.splitlines())] == [
        (1, True),
        (2, False),
    ]
    assert command("retry", "--failed").returncode == 1
    assert site.contents() == FILES


def test_a_complete_job_stays_as_it_is(command: Command, site: Site, tmp_path: Path) -> None:
    command(write_bundle(tmp_path / "b.tar"))
    (tmp_path / "b.tar").unlink()
    done = command("retry", 1)
    assert done.returncode == 0
    assert "was ingested before" in done.stdout
    assert site.job(1).attempts == 1


def test_nothing_failed(command: Command) -> None:
    done = command("retry", "--failed")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("change", ["rewritten", "gone"])
def test_a_bundle_that_is_not_the_same_any_more(command: Command, site: Site, failed: Path, change: str) -> None:
    if change == "gone":
        failed.rename(failed.with_name("elsewhere.tar"))
    else:
        write_bundle(failed, {"data/new": b"new"}, document_for({"data/new": b"new"}))
    done = command("retry", 1)
    assert done.returncode == 1
    assert ("No such file" if change == "gone" else "was replaced after job 1 was submitted") in done.stderr
    assert site.holds_nothing()
    assert site.job(1).attempts == 1


@pytest.mark.parametrize("words", [(), ("1", "--failed")])
def test_either_ids_or_all(command: Command, words: tuple[str, ...]) -> None:
    assert command("retry", *words).returncode == 2


def test_an_unknown_id_stops_before_anything_runs(command: Command, site: Site, failed: Path) -> None:
    assert command("retry", 1, 99).returncode == 1
    assert site.job(1).attempts == 1


def test_a_store_of_the_first_version_is_brought_up_to_date(command: Command, site: Site, failed: Path) -> None:
    new = site.settings.database
    old = new.with_suffix(".old")
    with closing(open_database(old, MIGRATIONS[:1], "job store").conn) as connection, connection:
        columns = ", ".join(str(row[1]) for row in connection.execute("PRAGMA table_info(jobs)"))
        connection.execute("ATTACH ? AS new", [str(new)])
        connection.execute(f"INSERT INTO jobs ({columns}) SELECT {columns} FROM new.jobs")
    old.replace(new)
    assert command("retry", 1).returncode == 0
    assert site.job(1).attempts == 1
