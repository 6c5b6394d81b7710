"""Says, of a process that is there for long, that it is: where several hosts share a job store."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import IngestError
from ..jobs.process import host_name, this_process
from ..jobs.store import open_store
from ..settings import Settings

# A database that is away does not keep a process from ending.
LEAVE_SECONDS = 1.0


@contextmanager
def attending(settings: Settings, role: str) -> Iterator[None]:
    """Say that this process is there, for as long as the block lasts, and what its ``role`` is."""
    if isinstance(settings.database, Path):
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_attend, args=(settings, role, ended), name="attendance", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LEAVE_SECONDS)


def _attend(settings: Settings, role: str, ended: threading.Event) -> None:
    while not ended.is_set():
        # While the database is away the others see nothing of it, as it should be.
        with suppress(IngestError):
            _attend_once(settings, role, ended)
        ended.wait(settings.timings.pause)


def _attend_once(settings: Settings, role: str, ended: threading.Event) -> None:
    me, host = this_process(), settings.cluster.host or host_name()
    with open_store(settings, new=False) as store:
        if store.attendance is None:
            ended.wait()
            return
        store.attendance.enter(me, host, role)
        while not ended.wait(settings.timings.presence):
            if not store.attendance.beat(me):  # it was forgotten
                store.attendance.enter(me, host, role)
        store.attendance.leave(me)
