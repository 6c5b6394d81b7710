"""Probes how many files an archive takes at once: writes files of its own, reads them back and deletes them."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.filesize import decimal

from ..bundle.content import Content
from ..disk import scratch
from ..errors import ArchiveError, IngestError, RollbackFailed, SourceError
from ..jobs.store import open_store
from ..services import factory
from ..services.base import Archive, ArchiveWriter
from ..settings import Settings
from ..text import counted
from .doctor import Finding, finding

PROBE_TRANSFERS = (1, 2, 4, 8)
PROBE_FILES = 32  # of each number of transfers: with the released archive, some files of two at once stay right
PROBE_BYTES = 1 << 20


def probe(settings: Settings) -> Iterator[Finding]:
    """Write files of its own into the archive, more and more of them at once, read them back and delete them.

    Ends where the archive damages one. An archive that mixes up concurrent files may mix up those of others too:
    nothing else should be written to it meanwhile.
    """
    levels = _levels(settings)
    for transfers in levels:
        trial = partial(_try_transfers, replace(settings, transfers=transfers))
        found = finding(f"{transfers} at once", trial, "set transfers = 1 in [archiveinterface]")
        if not found.ok:
            # What is mixed up with so many is mixed up with fewer too, only more rarely.
            if settings.transfers == 1 < transfers:
                found = Finding(found.name, f"failed, so send one file at a time: {found.detail}")
            yield found
            return
        yield found
    most = levels[-1]
    if settings.transfers < most:
        yield Finding("advice", f"set transfers = {most} in [archiveinterface] to send {most} files at once")


def _levels(settings: Settings) -> list[int]:
    """How many transfers at once are to be tried: an archive may have fewer, whatever the settings say."""
    if isinstance(settings.archive, Path):
        return [1]  # its threads are not transfers
    try:
        with closing(factory.archive(replace(settings, transfers=PROBE_TRANSFERS[-1]))) as archive:
            return [transfers for transfers in PROBE_TRANSFERS if transfers <= archive.transfers]
    except IngestError:
        return list(PROBE_TRANSFERS)  # the first trial says what is wrong


def _try_transfers(settings: Settings) -> str:
    with (
        open_store(settings) as store,
        factory.connect(settings, store) as connected,
        scratch(settings.spool, [os.urandom(PROBE_FILES * PROBE_BYTES)], SourceError) as file,
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
        writer.flush()
        return [problem for number in numbers if (problem := put_wrong[number] or read_back(number))]
    finally:
        if left := [problem for number in numbers if (problem := delete(number))]:
            raise RollbackFailed(f"cannot delete from the archive: {', '.join(left)}")
