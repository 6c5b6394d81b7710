"""Keeps what happens to a job until there is time, or it is its turn, to tell of it."""

from collections import deque
from types import TracebackType
from typing import Any, Self

from ..errors import IngestError
from ..jobs.job import Job
from .observer import Observer


class Kept(Observer):
    """Keeps what it is told, from any thread, to be told to another observer later."""

    def __init__(self) -> None:
        self._calls: deque[tuple[str, tuple[Any, ...]]] = deque()
        self.is_heard = False

    def tell(self, observer: Observer) -> None:
        """Tell the observer what was kept."""
        while self._calls:
            self.is_heard = True
            name, given = self._calls.popleft()
            getattr(observer, name)(*given)

    def __enter__(self) -> Self:
        self._calls.append(("__enter__", ()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.append(("__exit__", (kind, error, trace)))

    def started(self, job: Job) -> None:
        """Keep it."""
        self._calls.append(("started", (job,)))

    def stage(self, task: str) -> None:
        """Keep it."""
        self._calls.append(("stage", (task,)))

    def plan(self, files: int, total_bytes: int) -> None:
        """Keep it."""
        self._calls.append(("plan", (files, total_bytes)))

    def checked(self, length: int, files: int = 0) -> None:
        """Keep it."""
        self._calls.append(("checked", (length, files)))

    def stored(self, length: int, files: int = 0) -> None:
        """Keep it."""
        self._calls.append(("stored", (length, files)))

    def warn(self, message: str) -> None:
        """Keep it."""
        self._calls.append(("warn", (message,)))

    def note(self, message: str) -> None:
        """Keep it."""
        self._calls.append(("note", (message,)))

    def settled(self, job: Job) -> None:
        """Keep it."""
        self._calls.append(("settled", (job,)))

    def postponed(self) -> None:
        """Keep it."""
        self._calls.append(("postponed", ()))

    def failed(self, error: IngestError) -> None:
        """Keep it."""
        self._calls.append(("failed", (error,)))
