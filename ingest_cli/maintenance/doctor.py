"""Checks everything that a job needs, and says what to do where a check fails."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO

from rich.filesize import decimal

from ..bundle.content import Content
from ..errors import ArchiveError, ExitCode, IngestError, RollbackFailed, SourceError, StoreError
from ..jobs.store import open_store
from ..services import factory
from ..services.base import Archive, ArchiveWriter, Service
from ..settings import ARCHIVE_URL, CATALOG_URL, DATABASE, POLICY_URL, UNIQUEID_URL, VOLUME_PATH, Option, Settings
from ..streams import counted

# A clock may be set back by this much without anyone noticing.
CLOCK_SLACK = timedelta(minutes=1)
PROBE_TRANSFERS = (1, 2, 4, 8)
PROBE_FILES = 32  # of each number of transfers: with the released archive, some files of two at once stay right
PROBE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: ``detail`` in a line, and ``advice`` unless it is ``ok``."""

    name: str
    detail: str
    ok: bool = True
    advice: str = ""
    exit_code: ExitCode = ExitCode.SUCCESS


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check the job store, the clock, the spool folder and the four services. Nothing is stored."""
    store = _finding("job store", lambda: _check_store(settings), _setting(DATABASE))
    yield store
    if store.ok:
        yield _finding("clock", lambda: _check_clock(settings), "set this machine's clock")
    yield _finding("spool folder", lambda: _check_spool(settings.spool), _setting(VOLUME_PATH))
    yield _finding("ids", lambda: _ping(factory.unique_id(settings)), _setting(UNIQUEID_URL))
    yield _finding("policy", lambda: _ping(factory.policy(settings)), _setting(POLICY_URL))
    yield _finding("archive", lambda: _check_archive(settings), _setting(ARCHIVE_URL))
    yield _finding("catalogue", lambda: _ping(factory.catalog(settings)), _setting(CATALOG_URL))


def probe(settings: Settings) -> Iterator[Finding]:
    """Write files of its own into the archive, more and more of them at once, read them back and delete them.

    Ends where the archive damages one. An archive that mixes up concurrent files may mix up those of others too:
    nothing else should be written to it meanwhile.
    """
    levels = _levels(settings)
    for transfers in levels:
        look = partial(_try_transfers, replace(settings, transfers=transfers))
        finding = _finding(f"{transfers} at once", look, "set transfers = 1 in [archiveinterface]")
        if not finding.ok:
            # What is mixed up with so many is mixed up with fewer too, only more rarely.
            if settings.transfers == 1 < transfers:
                finding = Finding(finding.name, f"failed, so send one file at a time: {finding.detail}")
            yield finding
            return
        yield finding
    most = levels[-1]
    if settings.transfers < most:
        yield Finding("advice", f"set transfers = {most} in [archiveinterface] to send {most} files at once")


def _setting(option: Option) -> str:
    return f"see [{option.section}] {option.key}, or {option.variable}, in the output of 'ingest config'"


def _finding(name: str, look: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(name, look())
    except IngestError as error:
        return Finding(name, str(error), ok=False, advice=advice, exit_code=error.exit_code)


def _ping(service: Service) -> str:
    with closing(service):
        return service.ping()


def _check_archive(settings: Settings) -> str:
    with closing(factory.archive(settings)) as archive:
        detail, free = archive.ping(), archive.free_bytes()
    return detail if free is None else f"{detail}: {decimal(free)} free"


def _check_store(settings: Settings) -> str:
    with open_store(settings) as store:
        problems = store.check_integrity()
        if problems:
            raise StoreError(f"the job store {settings.database} is damaged: {problems}")
        return f"{settings.database}: {counted(store.count(), 'job')}"


def _check_clock(settings: Settings) -> str:
    now = datetime.now(UTC).replace(tzinfo=None)
    with open_store(settings) as store:
        for job in store.newest(1):
            if datetime.fromisoformat(job.updated) > now + CLOCK_SLACK:
                changed = f"job {job.job_id} was last changed at {job.updated[:16]} UTC"
                raise StoreError(f"it is {now:%Y-%m-%d %H:%M} UTC here, but {changed}")
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def _check_spool(spool: Path) -> str:
    with _spooled(spool, b"ingest"):
        return f"{spool}: {decimal(shutil.disk_usage(spool).free)} free"


@contextmanager
def _spooled(spool: Path, content: bytes) -> Iterator[IO[bytes]]:
    """A file that holds ``content`` and is gone afterwards."""
    with ExitStack() as stack:
        try:
            spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = stack.enter_context(tempfile.TemporaryFile(dir=spool))
            file.write(content)
            file.flush()
        except OSError as error:
            raise SourceError(f"cannot write into {spool}: {error.strerror}") from error
        yield file


def _levels(settings: Settings) -> list[int]:
    """How many transfers at once are to be tried: an archive may have fewer, whatever the settings say."""
    try:
        with closing(factory.archive(replace(settings, transfers=PROBE_TRANSFERS[-1]))) as archive:
            return [transfers for transfers in PROBE_TRANSFERS if transfers <= archive.transfers]
    except IngestError:
        return list(PROBE_TRANSFERS)  # the first trial says what is wrong


def _try_transfers(settings: Settings) -> str:
    with (
        factory.connect(settings) as connected,
        _spooled(settings.spool, os.urandom(PROBE_FILES * PROBE_BYTES)) as file,
    ):
        contents = [_content(file.fileno(), number) for number in range(PROBE_FILES)]
        first = connected.unique_id.reserve("file", len(contents))
        # No job and no other run has these ids, so that any fence will do.
        writer = connected.archive.writer(range(first, first + len(contents)), 1, resumed=False)
        with closing(writer):
            wrong = _write_and_read_back(connected.archive, writer, first, contents)
    if writer.resent:
        failures = counted(writer.resent, "failed attempt")
        raise ArchiveError(f"the archive stored {counted(len(contents), 'file')} only after {failures}")
    if wrong:
        raise ArchiveError(f"{len(wrong)} of {counted(len(contents), 'file')} came back damaged: {wrong[0]}")
    return f"wrote, read back and deleted {counted(len(contents), 'file')} of {decimal(PROBE_BYTES)}"


def _content(descriptor: int, number: int) -> Content:
    offset = number * PROBE_BYTES
    return Content(
        name=f"probe {number}",
        descriptor=descriptor,
        offset=offset,
        size=PROBE_BYTES,
        mtime=0,
        hashtype="sha1",
        hashsum=hashlib.sha1(os.pread(descriptor, PROBE_BYTES, offset), usedforsecurity=False).hexdigest(),
        observe=lambda _: None,
    )


def _write_and_read_back(archive: Archive, writer: ArchiveWriter, first: int, contents: list[Content]) -> list[str]:
    """What was wrong with the files that were. Deletes them all, or raises RollbackFailed with those that are left."""

    def put(number: int) -> str | None:
        try:
            writer.put(first + number, contents[number])
        except IngestError as error:
            return str(error)
        return None

    def read_back(number: int) -> str | None:
        try:
            digest = hashlib.sha1(b"".join(archive.read(first + number)), usedforsecurity=False).hexdigest()
        except IngestError as error:
            return str(error)
        return None if digest == contents[number].hashsum else f"file {first + number} differs from what was sent"

    def delete(number: int) -> str | None:
        try:
            writer.delete(first + number)
        except IngestError as error:
            return f"file {first + number} ({error})"
        return None

    numbers = range(len(contents))
    for number in numbers:
        if archive.stat(first + number) is not None:
            raise ArchiveError(
                f"the archive already holds file {first + number}: does the id store belong to this archive?"
            )
    try:
        with ThreadPoolExecutor(archive.transfers) as executor:
            put_wrong = list(executor.map(put, numbers))
        return [problem for number in numbers if (problem := put_wrong[number] or read_back(number))]
    finally:
        if left := [problem for number in numbers if (problem := delete(number))]:
            raise RollbackFailed(f"cannot delete from the archive: {', '.join(left)}")
