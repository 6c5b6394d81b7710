"""A drop folder: which of its files are new, stable, or have a job that ended."""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..bundle.fingerprint import is_text
from ..errors import ExitCode, FilesChanged, IngestError, SourceError, StoreError, Unavailable
from ..jobs.job import Job, JobState
from ..jobs.store import JobStore
from ..pipeline.selection import recorded_as
from ..services.base import UniqueId
from .candidates import Candidate, Candidates
from .disposition import Disposition
from .intake import Intake, Submitted
from .markers import Markers
from .own import OwnPlaces
from .places import Places
from .rules import WatchRules
from .said import Said
from .set_aside import put_back_all
from .stability import PAUSE_SECONDS, Sight
from .wholeness import why_not_yet

# At most this many jobs of a folder wait: a folder of a million files must not fill the queue for all others.
MAX_WAITING = 100
# So many of them are submitted together, and no more than get ready within so many seconds.
TOGETHER, TOGETHER_SECONDS = 32, 0.2
# For so long the kernel may still tell that a file was put back.
PUT_BACK_SECONDS = 5.0
# What keeps every file from becoming a job, not only the one at hand.
OF_ALL = (Unavailable, StoreError)


class DropFolder:
    """The folder ``path``, whose files become jobs of ``user`` in the queue. ``said`` is told of what goes wrong.

    What goes wrong with one file stops no other. A file's own age counts where ``now`` is given: the time by the
    folder's clock.
    """

    def __init__(
        self,
        path: Path,
        rules: WatchRules,
        disposition: Disposition,
        own: OwnPlaces,
        spool: Path,
        user: str,
        said: Said,
        now: float | None = None,
    ) -> None:
        self.path, self._rules, self._spool, self._said, self._now = path, rules, spool, said, now
        self._markers = Markers(path, wanted=rules.marker)
        self._own, self._disposition = own, disposition
        self._candidates = Candidates(path, rules, own, spool, said)
        self._intake = Intake(rules, disposition, self._markers, spool, user, said)
        self._places = Places(0 if rules.marker else rules.settle)
        self._submitted: list[Submitted] = []
        self._may_be_untidy = True
        self._put_back: dict[str, float] = {}

    def see(self, store: JobStore, names: Iterable[str] | None = None, renamed: Collection[str] = frozenset()) -> None:
        """See what is new of the files of these ``names``, or of all, and dispose of what has a job that ended.

        ``renamed`` were seen to be renamed into place. Raises SourceError where the folder cannot be read.
        """
        if names is None:
            self._own.look_again()
            self._tidy()
        subjects = None if names is None else {self._markers.subject_of(name) for name in names}
        present, unknown = set(), []
        for name, candidate in self._candidates.look(subjects, self._places.done):
            present.add(name)
            if candidate is not None:
                unknown.append(candidate)
            elif name in self._places.done:
                self._markers.spend(name)
        for gone in (self._places.names if subjects is None else subjects) - present:
            self._places.forget(gone)
        if subjects is None:
            self._said.keep(present)
        self._place(store, unknown, self._put_in_place(renamed), is_told=subjects is not None)

    def proceed(self, unique_id: UniqueId, store: JobStore) -> None:
        """Submit what is stable by now, and dispose of what has ended.

        Raises Unavailable or StoreError where no file can be submitted now.
        """
        try:
            self._follow_up(store)
            self._take(unique_id, store)
        finally:
            self._disposition.sync()

    @property
    def seconds_left(self) -> float | None:
        """In how many seconds there is something to do that nobody tells of; None where there is nothing."""
        left = self._places.pending.seconds_left if len(self._places.queued) < MAX_WAITING else None
        return min(PAUSE_SECONDS, PAUSE_SECONDS if left is None else left) if self._places.queued else left

    @property
    def problems(self) -> list[ExitCode]:
        """What was wrong with files so far, as exit codes."""
        return self._said.problems

    @property
    def is_waiting(self) -> bool:
        """Whether there are files that may be stable later."""
        return bool(self._places.pending)

    def changed_failures(self) -> list[str]:
        """The failed files that were changed since."""
        failed = self._places.failed
        return [name for name, candidate in self._candidates.look(list(failed), failed) if candidate is not None]

    def take_submitted(self) -> list[Submitted]:
        """The jobs that were submitted since this was last asked."""
        submitted, self._submitted = self._submitted, []
        return submitted

    def say_what_is_left(self) -> None:
        """Say which files are not ready yet, and why."""
        reasons: dict[str, list[tuple[str, str]]] = {}
        for name in self._places.pending:
            sight = self._places.pending[name]
            reasons.setdefault(sight.why_not or self._why_left(sight), []).append((name, sight.fingerprint))
        for reason, files in reasons.items():
            self._said.left(reason, files)

    def _why_left(self, sight: Sight) -> str:
        if sight.waited < self._places.pending.seconds:
            return "it has just changed"
        if len(self._places.queued) >= MAX_WAITING:
            return f"{MAX_WAITING} others have jobs that wait"
        return "it could not be taken now"

    def _place(self, store: JobStore, found: list[Candidate], renamed: set[str], *, is_told: bool) -> None:
        """Put each file in its place."""
        news = [candidate for candidate in found if candidate.name in renamed or not self._places.is_awaited(candidate)]
        for candidate, job in _with_jobs(news, store):
            with self._spared(candidate):
                # What is done to a file that failed is told as well: it is not to be done over and over.
                is_ours = is_told and self._places.failed.get(candidate.name) == candidate.fingerprint
                if job is None or is_ours:
                    self._wait_for(candidate, renamed=candidate.name in renamed)
                else:
                    self._markers.spend(candidate.name)
                    self._follow(candidate, job, store)

    def _put_in_place(self, renamed: Collection[str]) -> set[str]:
        """Those of the ``renamed`` that others have renamed: what was set aside to be disposed of, and was another file
        by then, is not complete for being put back."""
        since = time.monotonic() - PUT_BACK_SECONDS
        self._put_back = {name: moment for name, moment in self._put_back.items() if moment > since}
        return set(renamed) - self._put_back.keys()

    def _follow_up(self, store: JobStore) -> None:
        """See which jobs have ended."""
        for candidate, job in _with_jobs(self._places.queued.values(), store):
            with self._spared(candidate):
                if job is None:
                    self._wait_for(candidate)
                else:
                    self._follow(candidate, job, store)

    def _take(self, unique_id: UniqueId, store: JobStore) -> None:
        """Submit what is ready, of what is due."""
        names = self._places.pending.due(MAX_WAITING - len(self._places.queued))
        for name in names:
            self._places.pending.put_off(name)
        unchanged = []
        for _, candidate in self._candidates.look(names, {}):
            if candidate is not None and self._places.pending.is_known(candidate.name, candidate.fingerprint):
                unchanged.append(candidate)
            elif candidate is not None:
                self._wait_for(candidate)
        ready, since = [], time.monotonic()
        for candidate, job in _with_jobs(unchanged, store):
            with self._spared(candidate):
                if job is not None:
                    self._follow(candidate, job, store)
                elif self._is_ready(candidate):
                    ready.append(candidate)
            if self._rules.packs or len(ready) == TOGETHER or time.monotonic() - since > TOGETHER_SECONDS:
                self._submit(unique_id, store, ready)
                ready, since = [], time.monotonic()
        self._submit(unique_id, store, ready)

    def _is_ready(self, candidate: Candidate) -> bool:
        sight = self._places.pending[candidate.name]
        sight.why_not = why_not_yet(candidate, sight, self._rules, self._spool)
        if sight.why_not and sight.waited >= self._rules.settle + self._rules.patience:
            trouble = SourceError(f"{candidate.path} is not packed: {sight.why_not}")
            self._said.problem(candidate.name, candidate.fingerprint, trouble)
        return not sight.why_not

    def _submit(self, unique_id: UniqueId, store: JobStore, ready: list[Candidate]) -> None:
        submitted = zip(ready, self._intake.submit(unique_id, store, ready), strict=True)
        # Those first that have jobs: what is wrong with another one may be wrong with all.
        for candidate, found in sorted(submitted, key=lambda one: isinstance(one[1], Exception)):
            with self._spared(candidate):
                if isinstance(found, Exception):
                    self._refuse(candidate, found)
                else:
                    self._submitted.append(found)
                    self._markers.spend(candidate.name)
                    self._follow(candidate, found.job, store)

    def _refuse(self, candidate: Candidate, error: Exception) -> None:
        if isinstance(error, FilesChanged):
            return  # it is looked at again
        is_passing = isinstance(error, OF_ALL) or (isinstance(error, IngestError) and error.transient)
        if is_passing or not os.path.lexists(candidate.path):
            raise error
        self._intake.refuse(candidate, error)
        self._places.settle(candidate, done=False)

    def _follow(self, candidate: Candidate, job: Job, store: JobStore) -> None:
        job = _as_it_stands(job, store)
        if job.is_done or job.has_failed:
            if not self._end(candidate, job):
                self._put_back[candidate.name] = time.monotonic()
            self._places.settle(candidate, done=job.is_done)
        else:
            self._places.follow(candidate)

    def _end(self, candidate: Candidate, job: Job) -> bool:
        try:
            return self._intake.end(candidate, job)
        except IngestError:
            self._may_be_untidy = True
            raise

    def _tidy(self) -> None:
        """Put back what was set aside to be moved or deleted, by a watcher that was killed then."""
        if not self._may_be_untidy:
            return
        self._may_be_untidy = False
        with suppress(OSError):  # the folder cannot be read: it is told of when it is looked into
            for trouble in put_back_all(self.path):
                self._said.problem(self.path.name, "", SourceError(trouble))

    def _wait_for(self, candidate: Candidate, *, renamed: bool = False) -> None:
        # What tells of a marker tells of its file.
        if self._markers.is_set(candidate.name):
            age = 0.0 if self._now is None else candidate.age(self._now)
            self._places.wait_for(candidate, renamed=renamed, age=age)
        else:
            self._places.forget(candidate.name)

    @contextmanager
    def _spared(self, candidate: Candidate) -> Iterator[None]:
        """Whatever goes wrong with the file, the others are looked at; it is said, unless the file is gone by now."""
        try:
            yield
        except OF_ALL:
            raise
        except Exception as error:  # noqa: BLE001 - one file is not to stop the others, whatever it is
            if os.path.lexists(candidate.path):
                self._said.problem(candidate.name, candidate.fingerprint, error)
            if not (isinstance(error, IngestError) and error.transient):
                self._places.settle(candidate, done=False)
            elif candidate.name in self._places.queued:
                self._places.forget(candidate.name)  # its job has ended: it is disposed of when all is looked at again


def _with_jobs(candidates: Collection[Candidate], store: JobStore) -> Iterator[tuple[Candidate, Job | None]]:
    """Each of the candidates, by the order of their names, and the newest job of it: of this very file."""
    asked = sorted(candidates, key=lambda candidate: candidate.name)
    jobs = store.of_sources([str(candidate.source) for candidate in asked if is_text(candidate.path)])
    for candidate in asked:
        job = jobs.get(str(candidate.source))
        # What was packed has a name that tells of what it is.
        is_same = job is not None and (candidate.is_folder or job.fingerprint == candidate.fingerprint)
        yield candidate, job if is_same else None


def _as_it_stands(job: Job, store: JobStore) -> Job:
    """The job, with the state of the one that superseded it, if there is one."""
    if job.state is not JobState.SUPERSEDED:
        return job
    other = store.get(recorded_as(store, job.job_id))
    return replace(job, state=other.state, task=other.task, exception=other.exception)
