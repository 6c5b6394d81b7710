"""One scan of a drop folder: which of its files are new, stable, or have a job that ended."""

from dataclasses import replace
from pathlib import Path

from ..bundle.fingerprint import is_text
from ..bundle.pack import write_bundle
from ..bundle.reader import Bundle
from ..errors import BundleError, FilesChanged, IngestError, PackError, SourceError
from ..jobs.job import Job, JobKind, JobState
from ..jobs.store import JobStore
from ..pipeline.selection import recorded_as
from ..pipeline.submission import submit
from ..services.base import UniqueId
from ..text import quoted
from .candidates import Candidate, candidates_in
from .disposition import Disposition
from .rules import WatchRules
from .stability import Stability

MARKER = ".done"
# At most this many jobs of a folder wait: a folder of a million files must not fill the queue for all others.
MAX_WAITING = 100


class DropFolder:
    """The folder ``path``, whose files become jobs of ``user`` in the queue."""

    def __init__(self, path: Path, rules: WatchRules, disposition: Disposition, spool: Path, user: str) -> None:
        self.path, self._rules, self._disposition, self._spool = path.absolute(), rules, disposition, spool
        self._user = user
        self._stability = Stability(rules.settle)
        self._refused: dict[Path, str] = {}
        self.waiting: list[Path] = []
        self._submitted: list[tuple[Job, list[str]]] = []

    def scan(self, unique_id: UniqueId, store: JobStore, renamed: set[Path]) -> list[str]:
        """Submit what is stable, and dispose of what has ended. ``renamed`` were seen to be renamed into place.

        Returns why files were refused that cannot become jobs, each once. Afterwards ``waiting`` are the files that a
        later scan may find stable, or their jobs ended. Raises SourceError where the folder cannot be read, and
        ServiceUnavailable where no ids can be reserved.
        """
        refusals = []
        self._stability.begin_round()
        self.waiting = []
        in_queue = 0
        for candidate in candidates_in(self.path, self._rules, self._spool):
            path = candidate.path
            job = store.of_source(candidate.source) if is_text(path) else None
            if job is None or (job.fingerprint != candidate.fingerprint and self._rules.template is None):
                if in_queue >= MAX_WAITING or not self._is_whole(candidate, renamed=path in renamed):
                    self.waiting.append(path)
                    continue
                try:
                    job, warnings = self._submit(unique_id, store, candidate)
                except FilesChanged:  # it is not whole after all
                    self.waiting.append(path)
                    continue
                except (SourceError, PackError) as error:
                    if self._is_news(candidate):
                        self._disposition.explain_refusal(path, error)
                        refusals.append("\n".join(error.lines))
                    continue
                self._submitted.append((job, warnings))
            job = _as_it_stands(job, store)
            if job.is_done or job.has_failed:
                self._end(candidate, job)
            else:
                in_queue += 1
                self.waiting.append(path)
        return refusals

    def take_submitted(self) -> list[tuple[Job, list[str]]]:
        """The jobs that were submitted since this was last asked, each with the warnings of what packed it."""
        submitted, self._submitted = self._submitted, []
        return submitted

    def _submit(self, unique_id: UniqueId, store: JobStore, candidate: Candidate) -> tuple[Job, list[str]]:
        rules, path = self._rules, candidate.path
        if rules.template is None:
            return submit(store, unique_id, rules.kind, candidate.source, user=self._user), []
        if not is_text(path):
            raise SourceError(f"the name {quoted(str(path))} is not valid UTF-8: rename the folder")
        self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        packed = write_bundle([path], rules.template, candidate.source, rules.packing, replace=True)
        job = submit(
            store, unique_id, JobKind.BUNDLE, candidate.source, user=self._user, spooled=True, origin=str(path)
        )
        return job, packed.warnings

    def _is_news(self, candidate: Candidate) -> bool:
        news = candidate.path.exists() and self._refused.get(candidate.path) != candidate.fingerprint
        self._refused[candidate.path] = candidate.fingerprint
        return news

    def _end(self, candidate: Candidate, job: Job) -> None:
        self._disposition.carry_out(candidate.path, job)
        if self._rules.template is not None and job.state is not JobState.HELD:
            candidate.source.unlink(missing_ok=True)  # of a failed job; the folder itself can be packed again
        if self._rules.marker and not candidate.path.exists():
            self._marker_of(candidate).unlink(missing_ok=True)

    def _is_whole(self, candidate: Candidate, *, renamed: bool) -> bool:
        if self._rules.marker:
            return self._marker_of(candidate).exists()
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
