"""``ingest cancel``: a job that has not ended is ended, by whoever works on it, and is never run again."""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.job import Job, JobKind, JobState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.settlement import cancel
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.factory import connect

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.pacifica_double import PacificaSite
from ..support.site import Site, file_of
from ..support.terminal import Terminal
from ..support.waiting import PATIENCE, until

MANY = {f"data/{number:03}": b"x" * number for number in range(300)}


def test_a_running_job_is_stopped_and_discarded_by_its_holder(
    command: Command, site: Site, pacific: PacificaSite, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    pacific.seconds_a_file = 0.05
    running = starting("-q", write_bundle(tmp_path / "b.tar", MANY))
    until(lambda: pacific.files)
    done = command("cancel", 1)
    assert done.returncode == 0
    assert "stops working on it now, and what is stored is rolled back" in done.stdout
    assert running.wait(PATIENCE) == 1
    job = site.job(1)
    assert (job.state, job.reservation) == (JobState.DISCARDED, None)
    assert job.exception.startswith("cancelled by ")
    assert not pacific.files
    assert not pacific.transactions
    assert command("retry", "--failed").stdout == "", "it is not to be run again"


def test_one_that_is_suspended_stops_once_it_is_continued(
    command: Command, site: Site, pacific: PacificaSite, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    pacific.seconds_a_file = 0.05
    said = tmp_path / "said"
    with said.open("wb") as output:
        running = starting(write_bundle(tmp_path / "b.tar", MANY), output=output)
    until(lambda: pacific.files)
    os.kill(running.pid, signal.SIGSTOP)
    try:
        assert "stops working on it once it is continued" in command("cancel", 1).stdout
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert running.wait(PATIENCE) == 1
    assert "job 1 was discarded: cancelled by " in said.read_text()
    assert site.job(1).state is JobState.DISCARDED


class LettingGo(SqliteJobStore):
    """A store in which the holder of a job lets go of it as soon as it was seen to be alive."""

    def is_dead(self, job: Job) -> bool:
        was_dead = super().is_dead(job)
        if job.state is JobState.RUNNING:
            self.requeue(job.fence)
        return was_dead


def test_one_that_is_let_go_of_meanwhile_ends_at_once(site: Site, tmp_path: Path) -> None:
    settings = site.settings
    with LettingGo(file_of(settings), settings.timings) as store, connect(settings, store) as services:
        bundle = write_bundle(tmp_path / "b.tar")
        job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=this_process())
        ended = cancel(store, job.job_id, "cancelled by u", settings.timings, partial(connect, settings, store))
    assert ended.state is JobState.DISCARDED
    assert ended.exception == "cancelled by u"


def test_a_deferred_job_ends_at_once(command: Command, site: Site, half_stored: Path) -> None:
    assert len(site.archived()) == len(FILES)
    done = command("cancel", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "job 1: cancelled; nothing of it is left in the archive\n"
    assert site.holds_nothing()
    job = site.job(1)
    assert job.state is JobState.DISCARDED
    assert job.as_state()["exception"].startswith("cancelled by ")
    assert "metadata" in job.exception, "the reason for which it was deferred is kept"
    assert command("cancel", 1).returncode == 0, "it stays as it is"


def test_a_waiting_job_ends_at_once(command: Command, site: Site, tmp_path: Path) -> None:
    command("--queue", write_bundle(tmp_path / "b.tar"))
    (state,) = map(json.loads, command("cancel", 1, "--json").stdout.splitlines())
    assert (state["job_id"], state["status"], state["complete"]) == (1, "discarded", True)
    assert state["exception"].startswith("cancelled by ")
    for shown in (command("state"), command("state", 1)):
        assert "cancelled by " in shown.stdout
        assert "FAILED" not in shown.stdout
    assert command("worker", "--until-empty").stdout == ""


def test_what_has_ended_is_not_cancelled(command: Command, site: Site, tmp_path: Path) -> None:
    command(write_bundle(tmp_path / "good.tar"))
    command(write_bundle(tmp_path / "bad.tar", metadata=b"{}"))
    before = site.jobs()
    done = command("cancel", 1, 2)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "ingest: job 1 cannot be cancelled: it is complete",
        "ingest: job 2 cannot be cancelled: it has failed; 'ingest discard 2' abandons it",
    ]
    assert site.jobs() == before
    assert site.contents() == FILES


# Jobs that are chosen by what they are


@pytest.fixture
def jobs(site: Site, tmp_path: Path) -> dict[int, str]:
    """The statuses of a dozen jobs that failed, and of some others, by their ids."""
    wanted = {**dict.fromkeys(range(1, 13), "failed"), 13: "complete", 14: "waiting"}
    with connect(site.settings) as services, open_store(site.settings) as store:
        for number, status in wanted.items():
            bundle = write_bundle(tmp_path / f"{status}{number:02}.tar", metadata=b"[%d]" % number)
            holder = None if status == "waiting" else this_process()
            job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="ada", holder=holder)
            if status == "failed":
                store.undo(job.fence, JobState.FAILED, "load metadata", "bad")
            elif status == "complete":
                store.record(job.fence)
    return wanted


def statuses(site: Site) -> dict[int, str]:
    return {job.job_id: str(job.status) for job in site.jobs()}


def changed_since(before: list[Job], site: Site) -> list[int]:
    return sorted(job.job_id for job in set(site.jobs()) - set(before))


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "changed"),
    [
        pytest.param(["discard", "--failed"], range(1, 13), marks=pytest.mark.sweep),
        (["discard", "--source", "*/failed0[1-3].tar"], range(1, 4)),
        pytest.param(["discard", "--since", "1h"], [*range(1, 13), 14], marks=pytest.mark.sweep),
        (["cancel", "--waiting"], [14]),
        pytest.param(["cancel", "--since", "1h"], [14], marks=pytest.mark.sweep),
        (["retry", "--failed", "--source", "failed12.tar"], [12]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_without_a_terminal_nothing_is_done_unless_it_is_meant(
    command: Command, site: Site, jobs: dict[int, str], words: list[str], changed: list[int]
) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "would be" in done.stderr
    assert "--yes does it, --dry-run lists them" in done.stderr
    listed = command(*words, "--dry-run", "--json")
    assert [json.loads(line)["job_id"] for line in listed.stdout.splitlines()] == list(changed)
    assert command(*words, "--dry-run").returncode == 0
    assert statuses(site) == jobs
    before = site.jobs()
    assert command("-q", *words, "--yes").returncode == (1 if words[0] == "retry" else 0)
    assert changed_since(before, site) == list(changed)


def test_what_failed_is_retried_unasked(command: Command, site: Site, jobs: dict[int, str]) -> None:
    """As by cron."""
    done = command("-q", "retry", "--failed", "--interrupted")
    assert done.returncode == 1
    assert {job.job_id for job in site.jobs() if job.attempts == 2} == set(range(1, 13))


@pytest.mark.sweep
@pytest.mark.parametrize(
    "words",
    [
        ("discard", "--complete"),
        ("discard", "--running"),
        ("cancel", "--failed"),
        ("retry", "--complete"),
        ("cancel",),
        ("cancel", "1", "--waiting"),
        ("discard",),
        ("discard", "1", "--since", "1h"),
        ("discard", "--since", "some day", "--yes"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant(command: Command, site: Site, jobs: dict[int, str], words: tuple[str, ...]) -> None:
    done = command(*words)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert statuses(site) == jobs


@pytest.mark.parametrize(
    ("typed", "is_done"),
    [
        ("y\n", True),
        ("\n", False),
        pytest.param("n\n", False, marks=pytest.mark.sweep),
        pytest.param("\x04", False, marks=pytest.mark.sweep),
    ],
)
def test_the_person_at_the_terminal_is_asked(
    command: Command, site: Site, jobs: dict[int, str], tmp_path: Path, typed: str, is_done: bool
) -> None:
    with Terminal(tmp_path, command.line("discard", "--failed"), columns=100) as terminal:
        lines = terminal.until(lambda lines: any("Discard 12 jobs?" in line for line in lines))
        assert [line for line in lines if "failed" in line and "failed01.tar" in line]
        assert "and 2 more" in lines
        assert "x1b" not in "".join(lines)
        terminal.type(typed)
        assert terminal.end() == (ExitCode.INTERRUPTED if typed == "\x04" else 0)
    assert list(statuses(site).values()).count("discarded") == (12 if is_done else 0)


def test_a_dry_run_of_ids_says_to_which_it_cannot_be_done(command: Command, site: Site, jobs: dict[int, str]) -> None:
    done = command("cancel", 14, 13, "--dry-run")
    assert done.returncode == 1
    assert "waiting14.tar" in done.stdout
    assert done.stderr.splitlines() == [
        "ingest: job 13 cannot be cancelled: it is complete",
        "ingest: 1 job would be cancelled",
    ]
    assert statuses(site) == jobs
