"""The heartbeats of the runs of a process: one thread sends those of all that are at work, however many and short."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

from ..errors import JobNotFound, ResourceUnavailable, StoreError, Unavailable, WrongState
from .store import JobStore

Beat = Callable[[JobStore], bool]


class _Run:
    """A run that is at work: ``beat`` says that it lives, and whether it is to be said again."""

    def __init__(self, beat: Beat) -> None:
        self._beat, self._beating = beat, threading.Lock()
        self._has_ended = False

    def beat(self, store: JobStore) -> None:
        """Say that it lives, unless it has ended."""
        with self._beating:
            if self._has_ended:
                return
            try:
                self._has_ended = not self._beat(store)
            except (WrongState, JobNotFound):
                self._has_ended = True  # the job was just settled, let go of, or even forgotten

    def end(self) -> None:
        """From now on nothing is said of it."""
        with self._beating:
            self._has_ended = True


class Heart:
    """Says every so many ``seconds`` of each run that it lives, for as long as there are any.

    Of one that cannot be said at once, since somebody else is changing its job, it is said the next time: those of the
    others are not late for it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._runs: list[_Run] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._wake: SimpleQueue[None] = SimpleQueue()

    def end(self) -> None:
        """Let the thread end, where there is one and no run is at work, without waiting for the next one."""
        with self._lock:
            if self._thread is not None:
                self._wake.put(None)

    @contextmanager
    def beating(self, store: JobStore, beat: Beat) -> Iterator[None]:
        """Call ``beat``, with a store beside this one, again and again, unless it has returned False.

        Raises ResourceUnavailable where no thread can be started.
        """
        run = _Run(beat)
        with self._lock:
            self._runs.append(run)
        try:
            self._start(store)
            yield
        finally:
            with self._lock:
                self._runs.remove(run)
            run.end()

    def _start(self, store: JobStore) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._beat_on, args=(store,), name="heartbeats", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise ResourceUnavailable(str(error)) from error
            self._thread = thread

    def _beat_on(self, store: JobStore) -> None:
        # Not by an event of the last run's end: where one follows another, no thread is begun for each.
        while self._go_on():
            # A heartbeat may be missed; what a run itself cannot write, it reports.
            with suppress(Unavailable, StoreError), store.another(busy=self._seconds) as another:
                for run in self._runs.copy():
                    with suppress(Unavailable, StoreError):
                        run.beat(another)

    def _go_on(self) -> bool:
        """Wait for the next heartbeat; whether there are runs."""
        with suppress(Empty):
            self._wake.get(timeout=self._seconds)
        with self._lock:
            if not self._runs:
                self._thread = None
            return self._thread is not None
