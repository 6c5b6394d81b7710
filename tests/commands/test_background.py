"""In the background of a script, where SIGINT is ignored from birth: Ctrl-C is another's, SIGTERM ends it gently."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.job import JobState

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.pacifica_double import PacificaSite
from ..support.site import Site
from ..support.waiting import PATIENCE, until

MANY = {f"data/{number:03}": bytes([number]) for number in range(200)}
Background = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def in_background(command: Command, tmp_path: Path) -> Iterator[Background]:
    """Starts a command as ``sh -c 'ingest ... &'`` does; its words go to ``said``."""
    started: list[subprocess.Popen[bytes]] = []
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)

    def start(*words: object) -> subprocess.Popen[bytes]:
        with (tmp_path / "said").open("ab") as said:
            line = command.line(*words)
            started.append(
                subprocess.Popen(line, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=said, preexec_fn=ignore)
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.sweep
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_job(
    in_background: Background, command: Command, site: Site, pacific: PacificaSite, tmp_path: Path, workers: int
) -> None:
    pacific.seconds_a_file = 0.1
    bundle = write_bundle(tmp_path / "b.tar", MANY)
    if workers:
        assert command("--queue", bundle).returncode == 0
    process = in_background(*(["worker", "-n", workers] if workers else ["-q", bundle]))
    until(lambda: pacific.files)
    process.send_signal(signal.SIGINT)
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGINT)
    before = len(pacific.files)
    until(lambda: len(pacific.files) > before + 2)
    process.terminate()
    assert process.wait(PATIENCE) == ExitCode.INTERRUPTED
    job = site.job(1)
    assert (job.state, job.attempts, job.stored) == (JobState.QUEUED, 1, len(pacific.files))
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.sweep
@pytest.mark.parametrize("words", [("serve", "--port", 0, "-n", 1), ("watch", "drop")], ids=lambda words: words[0])
def test_what_runs_for_long(in_background: Background, tmp_path: Path, words: tuple[object, ...]) -> None:
    (tmp_path / "drop").mkdir()
    process = in_background(*words)
    sign = tmp_path / "drop" / ".ingest-watch.lock"
    until(lambda: sign.exists() or "listening at" in (tmp_path / "said").read_text())
    until(lambda: not _catches(process.pid, signal.SIGINT) and _catches(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    assert process.wait(PATIENCE) == 0


def _catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)
