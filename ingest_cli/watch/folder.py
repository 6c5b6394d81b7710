"""One scan of a drop folder: which of its files are new, stable, or have a job that ended."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..bundle.fingerprint import is_text
from ..bundle.pack import write_bundle
from ..bundle.reader import Bundle
from ..errors import BundleError, IngestError, PackError, SourceError
from ..jobs.job import Job, JobKind, JobState
from ..jobs.store import JobStore
from ..pipeline.selection import recorded_as
from ..pipeline.submission import submit
from ..services.base import UniqueId
from .candidates import Candidate, candidates_in
from .disposition import Disposition
from .own import OwnPlaces
from .rules import WatchRules
from .set_aside import put_back_all
from .stability import Stability

MARKER = ".done"
# At most this many jobs of a folder wait: a folder of a million files must not fill the queue for all others.
MAX_WAITING = 100


class DropFolder:
    """The folder ``path``, whose files become jobs of ``user`` in the queue."""

    def __init__(
        self, path: Path, rules: WatchRules, disposition: Disposition, own: OwnPlaces, spool: Path, user: str
    ) -> None:
        self.path, self._rules, self._disposition, self._spool = path.absolute(), rules, disposition, spool
        self._own, self._user = own, user
        self._stability = Stability(rules.settle)
        self._refused: dict[Path, str] = {}
        self.waiting: list[Path] = []
        self._submitted: list[Job] = []
        self._problems: list[IngestError] = []
        self._told: set[str] = set()
        self._may_be_untidy = True
        self._put_back: set[Path] = set()

    def scan(self, unique_id: UniqueId, store: JobStore, renamed: set[Path]) -> list[IngestError]:
        """Submit what is stable, and dispose of what has ended. ``renamed`` were seen to be renamed into place.

        Returns what is wrong with single files, each time that it is new: why they cannot become jobs, or not be moved
        or deleted. Afterwards ``waiting`` are the files that a later scan may find stable, or their jobs ended. Raises
        SourceError where the folder cannot be read, and ServiceUnavailable where no ids can be reserved.
        """
        self._problems = []
        self._tidy()
        self._stability.begin_round()
        self.waiting = []
        in_queue = 0
        # What we have put back ourselves is not complete for that.
        renamed, self._put_back = renamed - self._put_back, set()
        for candidate in candidates_in(self.path, self._rules, self._spool, self._own):
            path = candidate.path
            job = store.of_source(candidate.source) if is_text(path) else None
            if job is None or (job.fingerprint != candidate.fingerprint and self._rules.template is None):
                if in_queue >= MAX_WAITING or not self._is_whole(candidate, renamed=path in renamed):
                    self.waiting.append(path)
                    continue
                try:
                    job = self._submit(unique_id, store, candidate)
                except (SourceError, PackError) as error:
                    self._refuse(candidate, error)
                    continue
                self._submitted.append(job)
            job = _as_it_stands(job, store)
            if job.is_done or job.has_failed:
                self._end(candidate, job)
            else:
                in_queue += 1
                self.waiting.append(path)
        problems = {str(problem): problem for problem in self._problems}
        news = [problem for text, problem in problems.items() if text not in self._told]
        self._told = set(problems)
        return news

    def take_submitted(self) -> list[Job]:
        """The jobs that were submitted since this was last asked."""
        submitted, self._submitted = self._submitted, []
        return submitted

    def _submit(self, unique_id: UniqueId, store: JobStore, candidate: Candidate) -> Job:
        if self._rules.template is None:
            return submit(store, unique_id, self._rules.kind, candidate.source, user=self._user)
        self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bundle([candidate.path], self._rules.template, candidate.source, replace=True)
        return submit(store, unique_id, JobKind.BUNDLE, candidate.source, user=self._user, spooled=True)

    def _refuse(self, candidate: Candidate, error: IngestError) -> None:
        if not os.path.lexists(candidate.path) or self._refused.get(candidate.path) == candidate.fingerprint:
            return
        self._problems.append(error)
        try:
            self._disposition.refuse(candidate, str(error))
            self._refused[candidate.path] = candidate.fingerprint
        except IngestError as trouble:
            self._problems.append(trouble)
            self._may_be_untidy = True

    def _end(self, candidate: Candidate, job: Job) -> None:
        try:
            if not self._disposition.carry_out(candidate, job, self._spool):
                self._put_back.add(candidate.path)
        except IngestError as error:
            self._problems.append(error)
            self._may_be_untidy = True
        if self._rules.template is not None and job.state is not JobState.HELD:
            with suppress(OSError):
                candidate.source.unlink()  # of a failed job; the folder itself can be packed again
        if self._rules.marker and not os.path.lexists(candidate.path):
            with suppress(OSError):
                self._marker_of(candidate).unlink()

    def _tidy(self) -> None:
        """Put back what was set aside to be moved or deleted, by a watcher that was killed then."""
        if not self._may_be_untidy:
            return
        self._may_be_untidy = False
        with suppress(OSError):  # the folder cannot be read: it is told of when it is looked into
            self._problems += map(SourceError, put_back_all(self.path))

    def _is_whole(self, candidate: Candidate, *, renamed: bool) -> bool:
        if self._rules.marker:
            return os.path.lexists(self._marker_of(candidate))
        held = self._stability.see(candidate.path, candidate.fingerprint, renamed=renamed)
        if held < self._rules.settle:
            return False
        is_tar = self._rules.template is None and self._rules.kind is JobKind.BUNDLE
        if not is_tar or held >= self._rules.settle + self._rules.patience:
            return True
        return self._stability.may_check(candidate.path) and self._is_whole_tar(candidate.path)

    @staticmethod
    def _marker_of(candidate: Candidate) -> Path:
        return candidate.path.with_name(candidate.path.name + MARKER)

    def _is_whole_tar(self, path: Path) -> bool:
        try:
            with Bundle(path, self._spool):
                return True
        except BundleError:
            return False
        except IngestError:
            return True  # such as a file that may not be read: its job says so


def _as_it_stands(job: Job, store: JobStore) -> Job:
    """The job, with the state of the one that superseded it, if there is one."""
    if job.state is not JobState.SUPERSEDED:
        return job
    other = store.get(recorded_as(store, job.job_id))
    return replace(job, state=other.state, task=other.task, exception=other.exception)
