"""Processes that can hold a job: dead, out of sight, or real ones that can be stopped and killed."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from ingest_cli.jobs.process import Process, this_process
from ingest_cli.settings import Timings

HERE = this_process()
# Its id is given to this process by now: the kernel says that it is gone.
DEAD = replace(HERE, started="0")
# Under the same kernel, so a store that only this kernel can use does not know better than its heartbeat.
ELSEWHERE = Process(host="elsewhere", pid=1, started="1", boot=HERE.boot, namespace="pid:[1]")
CHILD = "from ingest_cli.jobs.process import this_process; print(this_process().to_text(), flush=True); input()"


class Child:
    """A process of this host."""

    def __init__(self, running: "subprocess.Popen[str]") -> None:
        self._running = running
        assert running.stdout is not None
        self.process = Process.from_text(running.stdout.readline())

    def stop(self) -> None:
        """Freeze it, as Ctrl-Z does."""
        self._running.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone a moment later, though nobody waits for it."""
        self._running.kill()


@contextmanager
def child() -> Iterator[Child]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield Child(running)
        finally:
            running.kill()


ROOT = Path(__file__).parents[2]
CLAIM = """
import json, os, signal, sys
from ingest_cli.errors import IngestError
from ingest_cli.settings import Timings
from tests.support.stores import store_at

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
lasting, parent = os.pipe()
for line in sys.stdin:
    place, timings, job_id = json.loads(line)
    if os.fork():
        continue
    os.close(parent)
    answer = {"pid": os.getpid(), "job_id": None, "error": ""}
    try:
        with store_at(place, Timings(**timings)) as store:
            job = store.lease_next() if job_id is None else store.lease(job_id)
            answer["job_id"] = job.job_id if job is not None else None
    except IngestError as error:
        answer["error"] = type(error).__name__
    print(json.dumps(answer), flush=True)
    if answer["job_id"] is not None:
        os.read(lasting, 1)  # until it is killed, or its parent ends
    os._exit(0)
"""


class Workers:
    """Begets processes that claim a job and live until they are killed: quickly, since each is a fork of one."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-c", CLAIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def claim(self, place: str, timings: Timings, job_id: int | None) -> tuple[int, int | None, str]:
        """A new process claims this job of the store there, or the next: its id, the job's, and the error's name."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(json.dumps([place, asdict(timings), job_id]), file=self._parent.stdin, flush=True)
        answer = json.loads(self._parent.stdout.readline())
        return answer["pid"], answer["job_id"], answer["error"]

    def close(self) -> None:
        self._parent.communicate()
