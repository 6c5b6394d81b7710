"""Where each file of a drop folder stands with the watcher."""

import os

from .candidates import Candidate
from .stability import Stability


class Places:
    """A file, known by its name, is in one place at a time.

    It is ``pending`` until it can be taken, ``queued`` while its job is at work, ``done`` if it stays after that, and
    ``failed`` if its job failed, or if it cannot become one. A file counts as stable after ``seconds``.
    """

    def __init__(self, seconds: float) -> None:
        self.pending = Stability(seconds)
        self.queued: dict[str, Candidate] = {}
        self.done: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    @property
    def names(self) -> set[str]:
        """The names of all files that are kept in mind."""
        return {*self.pending, *self.queued, *self.done, *self.failed}

    def is_awaited(self, candidate: Candidate) -> bool:
        """Whether the file is as it was when it became pending or queued."""
        name, fingerprint = candidate.name, candidate.fingerprint
        queued = self.queued.get(name)
        return (queued is not None and queued.fingerprint == fingerprint) or self.pending.is_known(name, fingerprint)

    def wait_for(self, candidate: Candidate, *, renamed: bool, age: float) -> None:
        """Have the file be pending, from now on if it is another than before."""
        if not self.pending.is_known(candidate.name, candidate.fingerprint):
            self.forget(candidate.name)
        self.pending.see(candidate.name, candidate.fingerprint, renamed=renamed, age=age)

    def follow(self, candidate: Candidate) -> None:
        """Have the file be queued."""
        self.forget(candidate.name)
        self.queued[candidate.name] = candidate

    def settle(self, candidate: Candidate, *, done: bool) -> None:
        """Have the file be done or failed, if it is still there."""
        self.forget(candidate.name)
        if os.path.lexists(candidate.path):
            (self.done if done else self.failed)[candidate.name] = candidate.fingerprint

    def forget(self, name: str) -> None:
        """Forget the file."""
        self.pending.forget(name)
        for place in (self.queued, self.done, self.failed):
            place.pop(name, None)
