"""How a worker comes by the next job: from the store itself, or from what hands out jobs to workers of many hosts."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from ..settings import PostgresUrl, Settings
from .interruption import Interruption
from .job import Job
from .store import JobStore


class Dispatch(Protocol):
    """Hands out the jobs of a store to a worker. One instance belongs to one thread at a time."""

    def lease_next(self) -> Job | None:
        """Become the holder of the next job that this host can run, as `JobStore.lease_next` does."""

    def wait(self, interruption: Interruption) -> None:
        """Wait until there may be a job, or the ``interruption`` is set; not for ever."""


class StoreDispatch:
    """The queue of the store itself, which is asked every ``poll`` seconds."""

    def __init__(self, store: JobStore, poll: float) -> None:
        self._store, self._poll = store, poll

    def lease_next(self) -> Job | None:
        """Become the holder of the next job."""
        return self._store.lease_next()

    def wait(self, interruption: Interruption) -> None:
        """Wait for a moment."""
        interruption.wait(self._poll)


@contextmanager
def dispatching(settings: Settings, store: JobStore) -> Iterator[Dispatch]:
    """What hands out the jobs of the site's ``store``."""
    if not isinstance(settings.database, PostgresUrl):
        yield StoreDispatch(store, settings.timings.poll)
        return
    from .procrastinate_dispatch import ProcrastinateDispatch
    from .task_queue import TaskQueue

    assert isinstance(store, TaskQueue)
    listening = settings.database if settings.cluster.listen else None
    with closing(ProcrastinateDispatch(store, settings.timings, listening)) as dispatch:
        yield dispatch
