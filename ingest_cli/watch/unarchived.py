"""What of an ingested file is archived nowhere, and would be lost with it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..bundle.header import BLOCK
from ..bundle.metadata import Document
from ..bundle.reader import METADATA_NAME, Bundle
from ..errors import FileRefused
from ..jobs.job import Job, JobKind
from ..pipeline.bundle_files import content_of, find_member, find_position
from ..text import counted, listed, quoted
from .set_aside import Replaced

CHUNK_BYTES = 1 << 20


def unarchived(path: Path, job: Job, spool: Path) -> str:
    """What of the file or folder at ``path`` is not in the archive, though its job is done; empty where all is.

    Raises OSError and IngestError where that cannot be found out.
    """
    if path.is_dir():
        return _of_folder(path, job)
    if job.kind is JobKind.MOVE:
        return ""  # a document, which the catalogue has
    with Bundle(path, spool) as bundle:
        return _of_bundle(bundle, job)


def _of_folder(folder: Path, job: Job) -> str:
    """By numbers: what is packed, and by which rules, is decided elsewhere."""
    sizes = list(_sizes_in(folder))
    missing = len(sizes) - job.files
    if missing > 0:
        of = f"{missing:,} of its {counted(len(sizes), 'file')} {'is' if missing == 1 else 'are'}"
        return f"{of} archived nowhere, such as links and system files"
    if (len(sizes), sum(sizes)) != (job.files, job.bytes):
        found = f"{counted(len(sizes), 'file')} of {sum(sizes):,} bytes"
        return f"it holds {found}, but {job.files:,} of {job.bytes:,} bytes were stored"
    return ""


def _sizes_in(folder: Path) -> Iterator[int]:
    """The sizes of all in the folder that is not a folder itself."""
    for place, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            found = os.lstat(f"{place}/{name}")
            if not stat.S_ISDIR(found.st_mode):
                yield found.st_size


def _raise(error: OSError) -> None:
    raise error


def _of_bundle(bundle: Bundle, job: Job) -> str:
    if bundle.fingerprint != job.fingerprint:
        raise Replaced(f"{bundle.path} was changed or replaced")
    entries = Document.parse(bundle.read_metadata()).files
    try:
        archived = {find_position(bundle, entry) for entry in entries}
        # Of a duplicate only the document was looked at.
        for entry in entries if job.successor is not None else ():
            content_of(bundle, find_member(bundle, entry), entry, lambda _: None).verify()
    except FileRefused as error:
        return str(error)
    names = (name for position, name in enumerate(bundle.members) if position not in archived)
    unlisted = [quoted(name) for name in names if name != METADATA_NAME]
    if unlisted:
        of = f"{len(unlisted):,} of its files {'is' if len(unlisted) == 1 else 'are'}"
        return f"{of} archived nowhere, since the metadata does not list them: {listed(unlisted)}"
    behind = _bytes_behind(bundle)
    return f"{counted(behind, 'byte')} follow the end of the tar, and are archived nowhere" if behind else ""


def _bytes_behind(bundle: Bundle) -> int:
    """How many bytes from the first that is not empty follow the two empty blocks which end a tar."""
    last = bundle.members.at(len(bundle.members) - 1)
    position = last.offset + -(-last.size // BLOCK) * BLOCK
    # Folders may still follow, in one header each and perhaps one for its name.
    size = os.fstat(bundle.descriptor).st_size
    while position < size and os.pread(bundle.descriptor, 2 * BLOCK, position) != bytes(2 * BLOCK):
        position += BLOCK
    while position < size:
        chunk = os.pread(bundle.descriptor, CHUNK_BYTES, position)
        if chunk.count(0) < len(chunk):
            return size - position - (len(chunk) - len(chunk.lstrip(b"\0")))
        position += len(chunk)
    return 0
