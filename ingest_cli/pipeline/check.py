"""Finds everything that is wrong with a bundle without storing anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..bundle.catalog_rules import check_document
from ..bundle.listed import FileEntry
from ..bundle.metadata import Document
from ..bundle.reader import Bundle
from ..disk import explained
from ..errors import IngestError, SourceError
from ..in_threads import done_in_threads
from ..jobs.stages import INGEST_FILES, LOAD_METADATA, OPEN_TAR
from ..meter import NOBODY, Meter
from ..services.base import Policy
from ..settings.site import usual_threads
from .bundle_files import content_of, find_member, warnings_about

# More than this no one reads of one bundle, and a document can have millions.
MAX_PROBLEMS = 1000


@dataclass(slots=True)
class Findings:
    """What was found: ``problems`` would fail a job, ``warnings`` would not; ``files`` and ``bytes`` are listed.

    Of very many problems only the first are kept; ``more_problems`` counts the others.
    """

    files: int = 0
    bytes: int = 0
    problems: list[IngestError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    more_problems: int = 0

    @property
    def problem_count(self) -> int:
        """How many problems there are."""
        return len(self.problems) + self.more_problems

    def note(self, problem: IngestError) -> None:
        """Keep a problem, or count it."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more_problems += 1

    @contextmanager
    def noted(self) -> Iterator[None]:
        """A problem ends the block and is noted, unless trying again may mend it."""
        try:
            yield
        except IngestError as error:
            if error.transient:
                raise
            self.note(error)


def check_bundle(path: Path, *, user: str, spool: Path, limit: int, policy: Policy, meter: Meter = NOBODY) -> Findings:
    """Look at all of the bundle at ``path``: tar, metadata, the catalogue's rules, the policy, and every file's hash.

    ``limit`` is how many bytes its document may have.
    Raises what trying again may mend, as ServiceUnavailable where the policy cannot be asked.
    """
    findings = Findings()
    with findings.noted():
        try:
            meter.stage(OPEN_TAR)
            with Bundle(path, spool, findings.note) as bundle:
                _check_inside(bundle, user, limit, policy, findings, meter)
        except OSError as error:
            raise explained(error, f"cannot read {path}", SourceError) from error
    return findings


def _check_inside(bundle: Bundle, user: str, limit: int, policy: Policy, findings: Findings, meter: Meter) -> None:
    meter.stage(LOAD_METADATA)
    pieces, sound = bundle.read_metadata(limit), findings.problem_count
    document = Document.parse(pieces, findings.note)
    findings.files, findings.bytes = len(document.files), document.total_bytes
    is_whole = findings.problem_count == sound
    check_document(document, findings.note)
    # Only a whole document is what the policy would be asked about.
    if is_whole:
        with findings.noted():
            policy.check(document, user)
    meter.stage(INGEST_FILES)
    meter.plan(findings.files, findings.bytes)
    for _, problem in done_in_threads(
        partial(_problem_of, bundle), document.files, lambda entry: entry.size, meter, usual_threads()
    ):
        if problem is not None:
            findings.note(problem)
    # Those of another size are listed too.
    listed = (bundle.position(entry.path) for entry in document.files)
    findings.warnings += warnings_about(bundle, (position for position in listed if position is not None))


def _problem_of(bundle: Bundle, entry: FileEntry, meter: Meter) -> IngestError | None:
    """What is wrong with a file of the bundle. Raises what trying again may mend."""
    try:
        member = find_member(bundle, entry)
        entry.require_usable_hash()
        content_of(bundle, member, entry, meter.advance).verify()
    except IngestError as error:
        if error.transient:
            raise
        return error
    finally:
        meter.advance(0, 1)
    return None
