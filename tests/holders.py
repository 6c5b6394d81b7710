"""Processes that can hold a job: dead, out of sight, or real ones that can be stopped and killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ingest_cli.jobs.process import Process, this_process

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
        """It is gone on return, though nobody has waited for it."""
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
