"""Kill it anywhere, at any time: the same command then finishes the same job, with nothing stored twice.

INGEST_TEST_KILLS sets how many kills are tried (40 unless set); INGEST_TEST_SEED where they fall.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.bundles import OF_FOLDERS, file_record, transaction, write_bundle, write_folder
from ..support.command import Command
from ..support.forks import Running
from ..support.site import Site, assert_sound

pytestmark = pytest.mark.sweep

KILLS = int(os.environ.get("INGEST_TEST_KILLS", "40"))
SEED = int(os.environ.get("INGEST_TEST_SEED", "1"))
COUNT = 600
PROCESSES, BUNDLES = 8, 50


def kill_once(starting: Callable[..., Running], words: tuple[object, ...], after: float) -> bool:
    """Whether the process was still at work when it was killed."""
    running = starting(*words, "-q")
    try:
        running.wait(after)
    except subprocess.TimeoutExpired:
        running.kill()
    return running.wait() == -signal.SIGKILL


def finished_length(command: Command, words: tuple[object, ...]) -> float:
    """How many seconds an undisturbed run takes, in a store of its own."""
    begun = time.monotonic()
    assert command(*words, "-q").returncode == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("kind", ["ingest", "folder", "move"])
def test_a_job_killed_again_and_again_is_finished(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., Running], kind: str
) -> None:
    moments = random.Random(SEED)
    files: dict[str, bytes] = {}
    length = finished_length(command, make(tmp_path, "warm", kind, files))
    kills, jobs = 0, 1
    while kills < KILLS // 2 and jobs < KILLS:
        words = make(tmp_path, f"job{jobs}", kind, files)
        for _ in range(moments.randint(1, 6)):
            if not kill_once(starting, words, moments.uniform(0.3, 1.0) * length):
                break
            kills += 1
        done = command(*words, "-q")
        assert done.returncode == 0, done.stderr
        jobs += 1
    assert_sound(site, files, jobs)


def make(folder: Path, name: str, kind: str, files: dict[str, bytes]) -> tuple[object, ...]:
    own = {f"data/{name}/{number:03}": f"{name} {number}".encode() * 50 for number in range(COUNT)}
    files.update(own)
    if kind == "ingest":
        return ("ingest", write_bundle(folder / f"{name}.tar", own))
    if kind == "folder":
        return ("ingest", write_folder(folder / f"{name}.folder", own), *OF_FOLDERS)
    records = transaction()
    for path, content in own.items():
        source = folder / "instrument" / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(content)
        records.append(file_record(path, content, source=str(source)))
    document = folder / f"{name}.json"
    document.write_text(json.dumps(records))
    return ("move", document)


def test_eight_processes_share_a_store_and_two_are_killed(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    files = {f"data/{number:03}": os.urandom(300) for number in range(PROCESSES * BUNDLES)}
    bundles = [write_bundle(tmp_path / f"{path[5:]}.tar", {path: content}) for path, content in files.items()]
    shares = [bundles[number::PROCESSES] for number in range(PROCESSES)]
    running = [starting("-q", *share) for share in shares]
    for process in running[:2]:
        deadline = time.monotonic() + 60
        while not (site.database.exists() and len(site.jobs()) > PROCESSES) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert [process.wait(300) for process in running] == [-signal.SIGKILL] * 2 + [0] * (PROCESSES - 2)
    for share in shares[:2]:
        done = command("-q", *share)
        assert (done.returncode, done.stderr) == (0, "")
    assert_sound(site, files, len(bundles))
