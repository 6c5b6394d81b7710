"""``ingest retry``: a job runs again under its own id, from where it stopped or from the start."""

import json
from pathlib import Path

import pytest

from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.factory import connect

from ..support.bundles import FILES, document_for, write_bundle
from ..support.command import Command
from ..support.holders import DEAD, HERE
from ..support.old_stores import old_store
from ..support.shown import is_stored
from ..support.site import Site


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
    assert [(job["job_id"], is_stored(job)) for job in map(json.loads, done.stdout.splitlines())] == [
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
    command(write_bundle(tmp_path / "c.tar", {"data/c": b"c"}))
    assert "ingest: 2 jobs: 2 were complete; " in command("retry", 1, 2).stderr


def test_nothing_failed(command: Command) -> None:
    command("worker", "--until-empty")
    done = command("retry", "--failed")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.sweep
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


def test_an_unknown_id_stops_no_other(command: Command, site: Site, failed: Path) -> None:
    done = command("retry", 99, 1)
    assert "there is no job 99" in done.stderr
    assert site.job(1).attempts == 2
    assert command("retry", 99).returncode == 1


def test_a_job_in_a_store_of_the_first_version(command: Command, site: Site, failed: Path) -> None:
    job, path = site.job(1), site.database
    row = {
        "source": job.source,
        "stamp": f"2049:{job.fingerprint}",
        "state": "FAILED",
        "task": job.task,
        "exception": job.exception,
        "digest": job.digest,
        "resumable": 0,
    }
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    old_store(path, 1, [row])
    assert command("retry", 1).returncode == 0
    assert (site.job(1).is_done, site.job(1).attempts) == (True, 1)
    assert site.contents() == FILES


def test_a_job_that_was_given_up_is_not_run_again(command: Command, site: Site, failed: Path) -> None:
    assert command("discard", 1).returncode == 0
    assert command("retry", "--failed").returncode == 0
    done = command("retry", 1)
    assert done.returncode == 1
    assert "job 1 cannot be retried: it is discarded" in done.stderr
    assert site.holds_nothing()


def test_a_job_that_rests_is_retried_as_a_failed_one(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with monkeypatch.context() as patch:
        patch.setenv("METADATA_INGEST_URL", "http://127.0.0.1:9/ingest")
        assert command(bundle).returncode == 4
    assert command("retry", "--failed").returncode == 0
    assert (site.job(1).is_done, site.job(1).attempts) == (True, 2)


def test_jobs_whose_process_died_run_again(command: Command, site: Site, tmp_path: Path) -> None:
    for number, holder in enumerate([DEAD, HERE, None], 1):
        bundle = write_bundle(tmp_path / f"{number}.tar", {f"data/{number}": b"x"})
        with connect(site.settings) as services, open_store(site.settings) as store:
            submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=holder)
    assert command("retry", "--failed").stdout == ""
    done = command("retry", "--interrupted")
    assert (done.returncode, done.stdout) == (0, f"job 1: {tmp_path / '1.tar'} is complete, 1 file\n")
    assert [job.state for job in site.jobs()] == ["queued", "running", "complete"]
