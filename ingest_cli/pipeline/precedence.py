"""Which of several jobs of one document goes first, where they run at once: the one that was begun first.

The others wait, and find it complete: they are its duplicates, whichever of them was read first.
"""

import threading
import time

# What hangs holds up nobody for longer: then the store decides, by which of them it heard of first.
LONGEST_WAIT = 1.0


class Precedence:
    """The documents of jobs that run at once in threads of this process, in the order in which the jobs were begun."""

    def __init__(self) -> None:
        self._digests: dict[int, str | None] = {}
        self._changed = threading.Condition()

    def begin(self, job_id: int) -> None:
        """The job is about to be run, behind those begun before."""
        with self._changed:
            self._digests[job_id] = None

    def end(self, job_id: int) -> None:
        """The job runs no more."""
        with self._changed:
            self._digests.pop(job_id, None)
            self._changed.notify_all()

    def give(self, job_id: int, digest: str) -> None:
        """The job is of this document: wait until no earlier one can be, that has not ended."""
        with self._changed:
            if job_id not in self._digests:
                return
            self._digests[job_id] = digest
            self._changed.notify_all()
            deadline = time.monotonic() + LONGEST_WAIT
            while self._is_behind(job_id, digest) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _is_behind(self, job_id: int, digest: str) -> bool:
        for other, found in self._digests.items():
            if other == job_id:
                return False
            if found is None or found == digest:
                return True
        return False
