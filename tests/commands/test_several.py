"""Several bundles in one command: at once, each once, and summed up at the end."""

import json
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Self

import pytest

from ingest_cli import api
from ingest_cli.cli.live import LiveTogether
from ingest_cli.cli.screens import Turns
from ingest_cli.errors import ExitCode, IngestError, ServiceUnavailable
from ingest_cli.jobs.filter import JobStatus
from ingest_cli.jobs.job import Job, JobKind, JobState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.stages import INGEST_FILES, INGEST_METADATA, LOAD_METADATA, OPEN_TAR, POLICY_VALIDATION, UPLOADING
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline import bundle_files
from ingest_cli.pipeline.observer import Observer
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.small import THREADS
from ingest_cli.pipeline.small_bundles import _Begun, _SmallBundles
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.embedded.layout import RUNS_FOLDER
from ingest_cli.services.factory import connect
from ingest_cli.throttle import BURST_SECONDS

from ..support.bundles import document_for, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.site import Site
from ..support.waiting import PATIENCE, until

STAGES = (UPLOADING, OPEN_TAR, LOAD_METADATA, POLICY_VALIDATION, INGEST_FILES, INGEST_METADATA)


def bundle(folder: Path, name: str, content: str = "") -> Path:
    return write_bundle(folder / f"{name}.tar", {"data/x": (content or name).encode(), "data/y": b"y"})


def broken(folder: Path, name: str) -> Path:
    files = {"data/x": name.encode()}
    return write_bundle(folder / f"{name}.tar", files, document_for({"data/x": b"?" * len(name)}))


def summary_of(stderr: str) -> list[str]:
    """The lines from the summary on."""
    lines = stderr.splitlines()
    (first,) = [number for number, line in enumerate(lines) if re.match(r"ingest: \d+ (bundle|job|document)s:", line)]
    return lines[first:]


def test_all_are_stored_and_each_line_is_whole(tmp_path: Path, command: Command, site: Site) -> None:
    names = [str(bundle(tmp_path, f"b{number}")) for number in range(12)]
    done = command("--jobs", 4, *names)
    assert done.returncode == 0
    found = [re.fullmatch(r"job (\d+): (.*) is complete, 2 files", line) for line in done.stdout.splitlines()]
    assert sorted(match[2] for match in found if match) == sorted(names)
    *stages, summary = done.stderr.splitlines()
    assert all(re.fullmatch(r"/\S+\.tar: (UPLOADING|[a-zA-Z ]+)", line) for line in stages), stages
    assert summary.startswith("ingest: 12 bundles: 12 complete; 24 files, 38 bytes in ")
    assert len(site.archived()) == len(site.rows("Files")) == 24


def test_of_one_file_and_of_one_document_one_is_stored(tmp_path: Path, command: Command, site: Site) -> None:
    one, other = bundle(tmp_path, "a", "same"), bundle(tmp_path, "b", "same")
    done = command("--jobs", 4, one, one, other, one, other)
    assert done.returncode == 0, done.stderr
    assert summary_of(done.stderr)[0].startswith("ingest: 5 bundles: 1 complete, 4 duplicates; 2 files, ")
    states = [job.state for job in site.jobs()]
    assert states.count(JobState.COMPLETE) == 1
    assert set(states) <= {JobState.COMPLETE, JobState.DUPLICATE}


class Meeting(Observer):
    """Has the job of the path store nothing before that of the stream has found it busy."""

    begun, met = threading.Event(), threading.Event()

    def __init__(self, name: str, _number: int, _count: int) -> None:
        self._is_first = name.endswith("a.tar")

    def stage(self, task: str) -> None:
        if self._is_first and task == INGEST_FILES:
            self.begun.set()
            assert self.met.wait(PATIENCE)

    def started(self, job: Job) -> None:
        assert self._is_first or self.begun.wait(PATIENCE)

    def postponed(self) -> None:
        self.met.set()


def test_a_job_that_found_another_of_its_document_busy_is_the_one_that_ends(tmp_path: Path, site: Site) -> None:
    one, other = bundle(tmp_path, "a", "same"), bundle(tmp_path, "b", "same")
    with other.open("rb") as stream:
        outcomes = api.ingest_files(JobKind.BUNDLE, [one, stream], Meeting, at_once=2)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert sorted(job.state for job in site.jobs()) == [JobState.COMPLETE, JobState.DUPLICATE]
    assert not list(site.settings.spool.iterdir())


def test_the_summary_names_each_failure_again(tmp_path: Path, command: Command) -> None:
    paths = [bundle(tmp_path, "good"), broken(tmp_path, "bad"), tmp_path / "none.tar"]
    done = command("--jobs", 2, *paths)
    assert done.returncode == ExitCode.SOME_FAILED
    summary, *failures = summary_of(done.stderr)
    assert summary.startswith("ingest: 3 bundles: 1 complete, 2 failed; 2 files, 5 bytes in ")
    assert re.match(rf"ingest: {paths[1]}: job \d failed at 'ingest files': 'data/x' hashes to sha1 ", failures[0])
    assert failures[1] == f"ingest: cannot read {paths[2]}: No such file or directory"


def test_where_nothing_went_well_no_failure_is_told_twice(tmp_path: Path, command: Command) -> None:
    done = command(tmp_path / "none1.tar", tmp_path / "none2.tar")
    assert re.findall(r"none\d", done.stderr) == ["none1", "none2"]
    assert "2 bundles: 2 failed" in done.stderr


def test_of_very_many_failures_the_first_are_named(tmp_path: Path, command: Command) -> None:
    done = command("--jobs", 2, *(tmp_path / f"none{number}.tar" for number in range(25)))
    assert done.returncode == ExitCode.FAILED
    summary, *failures, more = summary_of(done.stderr)
    assert summary.startswith("ingest: 25 bundles: 25 failed; 0 files, 0 bytes in ")
    assert [re.findall(r"none\d+", line) for line in failures] == [[f"none{number}"] for number in range(20)]
    assert more == "ingest: and 5 more: 'ingest state --failed'"


def test_the_rate_is_that_of_all_jobs_together(tmp_path: Path, command: Command, site: Site) -> None:
    paths = [bundle(tmp_path, name, name * 50_000) for name in "ab"]
    began = time.monotonic()
    assert command("--jobs", 2, "--limit-rate", "500k", *paths).returncode == 0
    # Each byte is read to be checked, and to be stored; so much may come at once.
    assert time.monotonic() - began >= 200_000 / 500_000 - BURST_SECONDS
    assert len(site.archived()) == 4


def test_workers_are_neither_slowed_nor_multiplied_by_who_queues(tmp_path: Path, command: Command) -> None:
    for words in (("--jobs", 2), ("--limit-rate", "5M")):
        done = command("--queue", *words, bundle(tmp_path, "a"))
        assert done.returncode == ExitCode.USAGE
        assert "cannot be used together: workers run the jobs" in done.stderr


def test_programs_are_answered_in_the_order_of_the_arguments(tmp_path: Path, command: Command) -> None:
    paths = [bundle(tmp_path, f"b{number}") for number in range(6)]
    command("--jobs", 1, *reversed(paths))
    done = command("--jobs", 3, "--json", *paths)
    assert [json.loads(line)["job_id"] for line in done.stdout.splitlines()] == [6, 5, 4, 3, 2, 1]


def test_what_is_said_too_early_is_said_in_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    turns = Turns()
    for number in (3, 1):
        turns.write(number, number)
        turns.end(number)
    assert capsys.readouterr().out == "1\n"
    turns.end(2)  # which had nothing to say
    assert capsys.readouterr().out == "3\n"
    turns.write(6, 6)
    turns.write(5, 5)
    turns.flush()
    assert capsys.readouterr().out == "5\n6\n"


def test_one_job_needs_no_summary_and_quiet_wants_none(tmp_path: Path, command: Command) -> None:
    assert "1 bundle" not in command(bundle(tmp_path, "a")).stderr
    assert command("--quiet", "--jobs", 2, bundle(tmp_path, "b"), bundle(tmp_path, "c")).stderr == ""


def test_failed_jobs_are_retried_at_once(tmp_path: Path, command: Command) -> None:
    paths = [broken(tmp_path, name) for name in "ab"]
    command(*paths)
    done = command("retry", "--failed", "--jobs", 2)
    assert done.returncode == ExitCode.FAILED
    assert summary_of(done.stderr)[0].startswith("ingest: 2 jobs: 2 failed; 0 files")


@pytest.mark.parametrize("sizes", [None, [1000, 1000, 0]], ids=["unknown", "known"])
def test_what_is_done_is_never_less_than_it_was(sizes: list[int] | None) -> None:
    together = LiveTogether(3, sizes)

    def whole() -> str:
        return together.lines(80)[-1].plain

    with together.row("a.tar", 1) as job:
        job.stage("ingest files")
        job.plan(1, 1000)
        job.checked(1000, 1)
        assert whole().startswith("0 of 3 done  500 bytes")
        job.stored(1000, 1)
        job.stage("ingest metadata")
        assert whole().startswith("0 of 3 done  1.0 kB")
    assert whole().startswith("1 of 3 done  1.0 kB")
    with together.row("b.tar", 2) as job:
        job.failed(IngestError("no"))
    assert whole().startswith("2 of 3 done  1 failed  2.0 kB" if sizes else "2 of 3 done  1 failed  1.0 kB")
    with together.row("c.tar", 3) as job:
        job.failed(ServiceUnavailable("not now"))
    assert whole().startswith("3 of 3 done  1 failed  1 deferred  ")


def test_a_signal_leaves_all_to_be_resumed_however_slow_they_are(tmp_path: Path, command: Command, site: Site) -> None:
    paths = [bundle(tmp_path, name, name * 50_000) for name in "ab"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = command.start("--jobs", 2, "--limit-rate", "1k", *paths, output=output)
    until(lambda: log.read_text().count("ingest files") == 2)
    process.terminate()
    assert process.wait(PATIENCE) == ExitCode.INTERRUPTED
    summary, message = summary_of(log.read_text())
    assert summary.startswith("ingest: 2 bundles: 2 interrupted; 0 files, 0 bytes in ")
    assert message == "ingest: interrupted; the same command resumes from here"
    assert [job.status for job in site.jobs()] == [JobStatus.INTERRUPTED] * 2
    assert command("--jobs", 2, *paths).returncode == 0
    assert sorted(job.job_id for job in site.jobs() if job.is_done) == [1, 2]


def test_what_would_be_ingested_once_more_is_not_said_to_be_resumed(tmp_path: Path, command: Command) -> None:
    paths = [bundle(tmp_path, name, name * 50_000) for name in "ab"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = command.start("--again", "--jobs", 2, "--limit-rate", "1k", *paths, output=output)
    until(lambda: log.read_text().count("ingest files") == 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == ExitCode.INTERRUPTED
    assert summary_of(log.read_text())[-1] == "ingest: interrupted; 'ingest retry --interrupted' resumes what was begun"
    assert command("retry", "--interrupted").returncode == 0


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_given_and_whenever_it_is_interrupted(
    seed: int, tmp_path: Path, command: Command, site: Site
) -> None:
    """Good ones, some under several names, broken and missing ones: each content ends up stored once."""
    chance = random.Random(seed)
    paths, contents = [], set()
    for number in range(30):
        kind = chance.choice(["good", "good", "same", "broken", "none"])
        if kind == "broken":
            paths.append(broken(tmp_path, f"broken{number}"))
        elif kind == "none":
            paths.append(tmp_path / f"none{number}.tar")
        else:
            content = "same" if kind == "same" else f"{number} " * chance.choice([1, 5_000])
            contents.add(content)
            paths.append(bundle(tmp_path, f"{kind}{number}", content))
        if chance.random() < 0.2:
            paths.append(chance.choice(paths))
    chance.shuffle(paths)
    for _ in range(chance.randint(0, 4)):
        process = command.start("--jobs", chance.choice([1, 1, 2, 8]), *paths)
        time.sleep(chance.random() * 0.5)  # at any moment
        ends = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
        process.send_signal(chance.choice(ends))
        # Before it has begun, and once it is over, a signal does what it does to any process.
        assert process.wait(PATIENCE) in (*ExitCode, *(-end for end in ends))
    done = command("--jobs", chance.choice([1, 4]), *paths)
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    assert summary_of(done.stderr)[0].startswith(f"ingest: {len(paths)} bundles: ")
    assert "deferred" not in summary_of(done.stderr)[0]
    assert len(site.rows("Transactions")) == len(contents)
    assert set(site.archived()) == {row["id"] for row in site.rows("Files")}
    assert {content.decode() for content in site.archived().values()} == {*contents, "y"}


def test_small_bundles_are_shown_one_after_the_other(tmp_path: Path, command: Command, site: Site) -> None:
    """Though they share what they wait for: their jobs, their lines and their answers are in the order given."""
    paths = [bundle(tmp_path, f"b{number}") for number in range(40)]
    same, bad, none = bundle(tmp_path, "same", "b3"), broken(tmp_path, "bad"), tmp_path / "none.tar"
    # Right behind the one of the same content, which is at work then: the first of the two is stored all the same.
    paths[4:4] = [same]
    paths[20:20] = [bad, paths[6], none]
    done = command(*paths)
    assert done.returncode == ExitCode.SOME_FAILED
    told = [(int(number), said) for number, said in re.findall(r"(?m)^job (\d+): (.*)$", done.stdout)]
    stored = [path for path in paths if path not in (same, bad, none)]
    assert [Path(said.split(" ", 1)[0]) for _, said in told] == [path for path in paths if path not in (bad, none)], (
        done.stdout
    )
    assert [said for _, said in told if "complete" in said] == [
        f"{path} is complete, 2 files" for path in dict.fromkeys(stored)
    ]
    jobs = {Path(job.source): job for job in site.jobs()}
    assert [jobs[path].job_id for path in dict.fromkeys(paths) if path != none] == list(range(1, 43))
    assert (jobs[same].state, jobs[same].duplicate_of) == (JobState.DUPLICATE, jobs[paths[3]].job_id)
    stages = [line.partition(": ")[0] for line in done.stderr.splitlines() if line.startswith("/")]
    assert list(dict.fromkeys(stages)) == [str(path) for path in dict.fromkeys(paths) if path != none]
    assert summary_of(done.stderr)[0].startswith("ingest: 44 bundles: 40 complete, 2 duplicates, 2 failed; ")
    answers = [json.loads(line) for line in command("--json", *paths).stdout.splitlines()]
    assert [answer["source"] for answer in answers] == [str(path) for path in paths]


def test_whoever_looks_on_hears_of_one_small_bundle_after_the_other(tmp_path: Path, site: Site) -> None:
    heard: list[tuple[int, str]] = []

    class Listener(Observer):
        def __init__(self, _name: str, number: int, count: int) -> None:
            assert count == 30
            self._number = number

        def _hear(self, what: str) -> None:
            assert threading.current_thread() is threading.main_thread()
            heard.append((self._number, what))

        def started(self, job: Job) -> None:
            self._hear("started")

        def stage(self, task: str) -> None:
            self._hear(task)

        def settled(self, job: Job) -> None:
            self._hear("settled")

    paths = [bundle(tmp_path, f"b{number}") for number in range(30)]
    outcomes = api.ingest_files(JobKind.BUNDLE, paths, Listener)
    assert [Path(outcome.name) for outcome in outcomes] == paths
    assert [outcome.job.job_id for outcome in outcomes if outcome.job] == list(range(1, 31))
    assert heard == sorted(heard, key=lambda one: one[0])
    assert {tuple(what for number, what in heard if number == wanted) for wanted in range(1, 31)} == {
        ("started", *STAGES, "settled")
    }


def test_small_bundles_are_left_to_be_resumed(tmp_path: Path, command: Command, site: Site) -> None:
    paths = [bundle(tmp_path, f"b{number}", f"{number} " * 5000) for number in range(60)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = command.start("--limit-rate", "100k", *paths, output=output)
    until(lambda: "is complete" in log.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == ExitCode.INTERRUPTED
    complete = [job for job in site.jobs() if job.is_done]
    assert log.read_text().count("is complete") == len(complete), "of what is complete it is said"
    assert {job.status for job in site.jobs() if not job.is_done} <= {JobStatus.INTERRUPTED}
    assert command(*paths).returncode == 0
    assert sorted(job.job_id for job in site.jobs() if job.is_done) == list(range(1, 61))
    assert len(site.archived()) == len(site.rows("Files")) == 120


def test_an_unexpected_error_of_one_ends_the_command_and_no_job_is_lost(tmp_path: Path, site: Site) -> None:
    class Broken(Observer):
        def __init__(self, _name: str, number: int, _count: int) -> None:
            self._number = number

        def settled(self, job: Job) -> None:
            if self._number == 7:
                raise RuntimeError("the screen is broken")

    paths = [bundle(tmp_path, f"b{number}") for number in range(40)]
    with pytest.raises(RuntimeError, match="the screen is broken"):
        api.ingest_files(JobKind.BUNDLE, paths, Broken)
    assert {job.status for job in site.jobs()} <= {JobStatus.COMPLETE, JobStatus.INTERRUPTED}
    outcomes = api.ingest_files(JobKind.BUNDLE, paths)
    assert all(outcome.error is None for outcome in outcomes)
    assert len(site.rows("Transactions")) == 40


def test_jobs_that_run_at_once_share_what_they_keep_in_memory(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too large for its share is written aside while it is checked."""
    monkeypatch.setattr(bundle_files, "KEPT_BYTES", 3 << 20)
    aside = set[str]()

    class Onlooker(Observer):
        def __init__(self, name: str, _number: int, _count: int) -> None:
            self._name = name

        def checked(self, length: int, files: int = 0) -> None:
            if files and list((site.archive / RUNS_FOLDER).glob("*/*.part")):
                aside.add(self._name)

    alone, *others = [write_bundle(tmp_path / f"{n}.tar", {"data/x": bytes(2 << 20) + b"%d" % n}) for n in range(3)]
    api.ingest_files(JobKind.BUNDLE, [alone], Onlooker, at_once=2)
    assert not aside
    api.ingest_files(JobKind.BUNDLE, others, Onlooker, at_once=2)
    assert aside == {str(path) for path in others}


def test_a_small_bundle_that_is_busy_is_shown_from_begin_to_end_each_time(tmp_path: Path, site: Site) -> None:
    """Whoever looks on may have heard of it before it was known that it must wait."""

    class Listener(Observer):
        def __enter__(self) -> Self:
            heard.append("begin")
            return self

        def __exit__(self, *_: object) -> None:
            heard.append("end")

    heard: list[str] = []
    path = bundle(tmp_path, "b")
    with open_store(site.settings) as store, connect(site.settings, store) as services:
        runner = Runner(site.settings, services, store)
        job = submit(store, services.unique_id, JobKind.BUNDLE, path, user="u", holder=this_process())
        bundles = _SmallBundles([path], lambda _: [job], runner, lambda: nullcontext(runner), lambda *_: Listener())
        begun = _Begun(path, job, runner)
        begun.kept.close()
        begun.heard.__enter__()
        assert not bundles._tell(begun)
        begun.heard.__exit__(None, None, None)
        begun.is_postponed = True
        assert bundles._tell(begun)
    assert heard == ["begin", "end", "begin", "end"]
    assert site.job(1).is_done


def test_bundles_that_wait_behind_others_are_said_to_live(
    tmp_path: Path, command: Command, site: Site, starting: Callable[..., Running]
) -> None:
    paths = [bundle(tmp_path, f"b{number}") for number in range(THREADS + 5)]
    command(paths[0])  # which makes the catalogue

    def are_alive() -> bool:
        beaten = [job for job in site.jobs() if job.state is JobState.RUNNING and job.heartbeat > 1]
        return len(beaten) == len(paths) - 1

    with closing(sqlite3.connect(site.catalog, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # none comes to its end
        running = starting("-q", *paths, timings={"heartbeat": 0.1})
        until(are_alive)
    assert running.wait(PATIENCE) == 0


def test_where_few_files_may_be_open_fewer_bundles_are_run_at_once(
    tmp_path: Path, command: Command, site: Site
) -> None:
    paths = [str(bundle(tmp_path, f"b{number}")) for number in range(30)]
    limited = ["sh", "-c", 'ulimit -n 120 && exec "$@"', "sh", *command.line(*paths, "-q")]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(site.rows("Transactions")) == 30
