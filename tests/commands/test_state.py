"""``ingest state``: which jobs there are, what became of each, and what can be done about it."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest_cli.cli.outlook import OUTLOOKS, outlook
from ingest_cli.errors import ExitCode
from ingest_cli.jobs.imported import ImportedJob
from ingest_cli.jobs.job import Job, JobKind, JobState, JobStatus
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.stages import INGEST_FILES, LOAD_METADATA, OPEN_TAR
from ingest_cli.settings import Timings

from ..support.a_job import a_job
from ..support.bundles import OF_FOLDERS, write_folder
from ..support.command import Command
from ..support.commands import commands
from ..support.holders import DEAD, HERE
from ..support.site import Site
from ..support.terminal import Terminal
from ..support.waiting import PATIENCE, until

WHY = "'data/a': its sha1 is 1234, but the metadata say 5678\nthe second line"


@dataclass
class Made:
    """Jobs of a site, each brought into its state."""

    store: SqliteJobStore
    last: int = 0

    def running(self, user: str = "ada") -> Job:
        self.last += 1
        job = self.store.submit(
            self.last, kind=JobKind.BUNDLE, source=f"/data/{self.last}.tar", fingerprint="1:2:3", user=user, holder=HERE
        )
        self.store.record_stage_time(job.fence, OPEN_TAR, 0.5)
        self.store.record_stage_time(job.fence, LOAD_METADATA, 61)
        self.store.identify(job.fence, f"digest {self.last}", 3, 3000 * self.last)
        self.store.enter(job.fence, INGEST_FILES)
        return job

    def complete(self) -> Job:
        return self.store.record(self.running().fence)

    def failed(self, user: str = "ada") -> Job:
        return self.store.undo(self.running(user).fence, JobState.FAILED, INGEST_FILES, WHY)

    def deferred(self) -> Job:
        job = self.running()
        self.store.defer(job.fence, INGEST_FILES, "the archive is away", 600)
        return job

    def waiting(self) -> Job:
        self.last += 1
        return self.store.submit(
            self.last, kind=JobKind.BUNDLE, source=f"/data/{self.last}.tar", fingerprint="1:2:3", user="u", holder=None
        )

    def dead(self) -> Job:
        self.last += 1
        return self.store.submit(
            self.last, kind=JobKind.BUNDLE, source=f"/data/{self.last}.tar", fingerprint="1:2:3", user="u", holder=DEAD
        )


@pytest.fixture
def made(site: Site) -> Iterator[Made]:
    with SqliteJobStore(site.database, Timings()) as store:
        yield Made(store)


def ids(command: Command, *words: object) -> list[int]:
    done = command("state", *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [job["job_id"] for job in json.loads(done.stdout)]


def test_jobs_are_chosen(command: Command, made: Made) -> None:
    complete, failed, deferred = made.complete(), made.failed("grace"), made.deferred()
    running, waiting = made.running(), made.waiting()
    for options, jobs in {
        ("--failed", "--running", "--complete"): [running, failed, complete],
        ("--waiting", "--deferred"): [waiting, deferred],
        ("--user", "grace", "--since", "2h"): [failed],
        ("--source", "[12].tar", "--until", "yesterday"): [],
        ("--source", "[12].tar", "--sort", "name"): [complete, failed],
        ("--sort", "size", "-n", 2): [running, deferred],
    }.items():
        assert ids(command, *options) == [job.job_id for job in jobs], options


def test_a_long_list_is_whole(command: Command, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [made.waiting().job_id for _ in range(25)]
    assert ids(command) == jobs[:4:-1]
    assert ids(command, "--all") == jobs[::-1]
    assert len(command("state", "--all").stdout.splitlines()) == 26


def test_a_line_tells_a_job(command: Command, made: Made) -> None:
    made.complete()
    made.failed()
    made.deferred()
    header, *lines = command("state").stdout.splitlines()
    assert header.split() == ["job", "state", "name", "files", "size", "when", "details"]
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    for line, pattern in zip(
        lines,
        [
            rf"  3  deferred  /data/3.tar      3  9.0 kB  {time}  until {time}: the archive is away",
            rf"  2  failed    /data/2.tar      3  6.0 kB  {time}  {WHY.splitlines()[0]}",
            rf"  1  complete  /data/1.tar      3  3.0 kB  {time}",
        ],
        strict=True,
    ):
        assert re.fullmatch(pattern, line), line


def test_what_was_uploaded_is_called_by_its_name(command: Command, made: Made) -> None:
    spooled = "/spool/resumable-7f9cbc76.tar"
    job = made.store.submit(
        1,
        kind=JobKind.BUNDLE,
        source=spooled,
        fingerprint="1:2:3",
        user="ada",
        holder=HERE,
        spooled=True,
        origin="a.tar",
    )
    made.store.undo(job.fence, JobState.FAILED, OPEN_TAR, f"{spooled} is damaged")
    line = command("state").stdout.splitlines()[1]
    assert line.endswith("  a.tar is damaged")
    assert spooled not in line


def test_as_csv(command: Command, made: Made) -> None:
    made.failed()
    row, *more = csv.DictReader(command("state", "--csv").stdout.splitlines())
    assert not more
    assert {name: row[name] for name in ("job_id", "status", "source", "files", "bytes", "user", "reason")} == {
        "job_id": "1",
        "status": "failed",
        "source": "/data/1.tar",
        "files": "3",
        "bytes": "3000",
        "user": "ada",
        "reason": WHY.splitlines()[0],
    }


def test_where_there_is_none(command: Command, made: Made) -> None:
    assert command("state", "--sort", "size").stdout == "no jobs yet\n"
    assert command("state", "--csv").stdout.count("\n") == 1
    assert command("state", "--json").stdout == "[]\n"
    made.complete()
    assert command("state", "--failed").stdout == "no jobs match\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "soon"], "--since 'soon' is not a time"),
        (["--sort", "age"], "--sort 'age' is not an order; it is one of job, updated, size, files, name"),
        (["1", "--failed"], "give jobs, or options that choose jobs, not both"),
        (["--csv", "--json"], "cannot be used together"),
        (["--follow", "--json"], "cannot be used together"),
    ],
)
def test_what_cannot_be_asked(command: Command, made: Made, words: list[str], said: str) -> None:
    done = command("state", *words)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert said in done.stderr


def test_one_job_with_all_there_is_to_know(command: Command, made: Made) -> None:
    made.failed()
    lines = command("state", 1).stdout.splitlines()
    facts = {line[:10].strip(): line[10:] for line in lines}
    assert facts["state"] == "failed"
    assert (facts["source"], facts["user"], facts["size"]) == ("/data/1.tar", "ada", "3.0 kB")
    assert facts["files"] == "3, of which 0 are stored"
    stages = lines.index("stages    open tar          0.5 s")
    assert lines[stages + 1] == "          load metadata  1 min 1 s"
    why = lines.index(f"why       {WHY.splitlines()[0]}")
    assert lines[why + 1] == "          the second line"
    assert facts["next"] == "nothing: it failed for good, and nothing of it is stored"
    assert facts["you can"].startswith("ingest retry 1 ")


@pytest.mark.parametrize(
    ("files", "stored"), [(1, "1 file and its metadata are"), (2, "2 files and their metadata are")]
)
def test_what_is_stored_of_a_job(files: int, stored: str) -> None:
    assert outlook(a_job(JobState.COMPLETE, files=files), "complete").next == f"nothing: {stored} stored"


def test_several_jobs_in_their_order_also_those_that_are_not_there(command: Command, made: Made) -> None:
    made.failed()
    made.complete()
    done = command("state", 2, 99, 1, "--json")
    assert done.returncode == ExitCode.SOME_FAILED
    second, absent, first = map(json.loads, done.stdout.splitlines())
    assert (second["job_id"], first["job_id"]) == (2, 1)
    assert (absent["job_id"], absent["exit_code"], absent["error"][:15]) == (99, 1, "there is no job")
    assert "there is no job 99" in done.stderr
    assert command("state", 2, 1).stdout.count("\n\njob  ") == 1


@pytest.mark.sweep
def test_one_job_in_a_narrow_window(made: Made, tmp_path: Path) -> None:
    made.failed()
    with Terminal(tmp_path, Command.line("state", 1), columns=40) as terminal:
        assert terminal.end() == 0
    # Below, the log tells it again.
    assert [line for line in terminal.lines if "why" in line or "sha1" in line or "say" in line][:2] == [
        "why       'data/a': its sha1 is 1234,",
        "          but the metadata say 5678",
    ]


def test_a_job_whose_process_died(command: Command, made: Made) -> None:
    made.dead()
    assert command("state").stdout.splitlines()[1].split()[:2] == ["1", "interrupted"]
    assert "interrupted: " in command("state", 1).stdout


def test_an_imported_job_is_answered_by_its_id(command: Command, made: Made) -> None:
    old = ImportedJob(
        job_id=7, state="OK", task="t", task_percent="100", complete=True, updated="u", created="c", exception=""
    )
    made.store.take_in([old])
    assert command("state", 7).stdout.splitlines()[0] == "job       7, imported from Pacifica Ingest"
    assert command("state").stdout == "no jobs yet\n"


def commands_named() -> Iterator[tuple[str, str]]:
    for word in OUTLOOKS:
        state = JobState(word) if word in list(JobState) else JobState.QUEUED
        for line in outlook(a_job(state, job_id=5, successor=3, holder=HERE), word).commands:
            yield word, line


def test_every_status_has_an_outlook() -> None:
    assert set(OUTLOOKS) == {*JobStatus, "stopped"}


def test_what_one_is_told_to_type_is_understood() -> None:
    known = commands()
    for _, line in commands_named():
        program, name, *words = line.split()
        if program == "ingest":
            known[name].make_context(name, words)


@pytest.mark.parametrize("columns", [80, *(pytest.param(other, marks=pytest.mark.sweep) for other in (40, 140))])
def test_on_a_terminal_it_fits_and_says_how_many(made: Made, tmp_path: Path, columns: int) -> None:
    made.complete()
    made.failed()
    with Terminal(tmp_path, Command.line("state", "--failed"), columns=columns) as terminal:
        assert terminal.end() == 0
    header, line, *below = terminal.lines
    assert header.split()[:3] == ["job", "state", "name"]
    # The folder gives way first.
    assert line.split()[:3] == ["2", "failed", "2.tar" if columns == 40 else "/data/2.tar"]
    assert " ago" in line
    assert terminal.lines[-1] == "1 job: 1 failed"
    assert ("data/a" in line) == (columns == 140)
    assert len(below) == (1 if columns == 140 else 2)
    assert "\x1b[31mfailed" in terminal.raw


def test_the_jobs_are_followed_until_ctrl_c(made: Made, tmp_path: Path) -> None:
    job = made.running()
    with Terminal(tmp_path, Command.line("state", "--follow")) as terminal:
        terminal.until(lambda lines: "1 job: 1 running" in lines)
        made.store.heartbeat(job.fence, 42)
        terminal.until(lambda lines: any("42%" in line for line in lines))
        made.store.record(job.fence)
        made.failed()
        terminal.until(lambda lines: "2 jobs: 1 failed, 1 complete" in lines)
        terminal.press("c")
        assert terminal.end() == 0
        assert terminal.cursor_is_shown
        assert sum("/data/1.tar" in line for line in terminal.lines) == 1


def test_where_nobody_looks_on_each_change_is_a_line(made: Made, command: Command, tmp_path: Path) -> None:
    made.complete()
    job = made.running()
    with (tmp_path / "log").open("wb") as log:
        following = command.start("state", "--follow", output=log)

    def states() -> list[list[str]]:
        return [line.split()[:2] for line in (tmp_path / "log").read_text().splitlines()[1:]]

    try:
        until(lambda: states() == [["2", "running"], ["1", "complete"]])
        made.store.heartbeat(job.fence, 42)
        made.store.record(job.fence)
        made.failed()
        until(lambda: states()[2:] == [["2", "complete"], ["3", "failed"]])
        following.terminate()
        assert following.wait(PATIENCE) == 0
    finally:
        following.kill()


@pytest.mark.sweep
def test_more_jobs_than_the_window_has_lines(made: Made, tmp_path: Path) -> None:
    for _ in range(40):
        made.waiting()
    with Terminal(tmp_path, Command.line("state", "--follow", "--all")) as terminal:
        lines = terminal.until(lambda lines: any("40 waiting" in line for line in lines))
        assert lines[0].split()[0] == "job"
        assert re.fullmatch(r"40 jobs: 40 waiting; \d+ shown", lines[-1])
        terminal.press("c")
        assert terminal.end() == 0


def test_a_job_tells_what_befell_it(command: Command, environment: Path, site: Site) -> None:
    """Its warnings too, which the command that ran it has long forgotten."""
    folder = write_folder(environment / "run", {"data/x": b"x", "data/.DS_Store": b""})
    done = command("ingest", folder, *OF_FOLDERS)
    assert done.returncode == 0, done.stderr
    shown = command("state", 1)
    log = shown.stdout[shown.stdout.index("\nlog ") :].splitlines()[1:4]
    assert [line[10:].partition("  ")[2] for line in log] == [
        f"submitted by {site.settings.user}",
        "1 system file left out: .DS_Store",
        "complete",
    ]
    (told,) = json.loads(command("state", 1, "--json").stdout)["log"]
    assert told["text"] == "1 system file left out: .DS_Store"
