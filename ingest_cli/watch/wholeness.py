"""Signs that a file is not whole yet, though it holds still: that it has more time then, and is not refused.

None of them is sure. A copier may set a file's size before it writes, and write what is not at its end last; what a
file system, an owner or another machine does not tell is no sign either way.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from ..bundle.fingerprint import fingerprint_of
from ..bundle.gather import MAX_ENTRIES
from ..bundle.header import BLOCK
from ..bundle.metadata import Document
from ..bundle.reader import Bundle, DocumentFile
from ..bundle.tar import Member
from ..bundle.tree import Entry, walk
from ..errors import BundleError, FileRefused, IngestError, MetadataError
from ..jobs.job import JobKind
from ..pipeline.bundle_files import content_of, find_position
from ..text import quoted
from .candidates import Candidate
from .rules import IN_FLIGHT_WITHIN, WatchRules
from .stability import Sight

# A tar ends with the rest of a block and two empty ones, and most tools fill its last record, of 20 blocks.
LONGEST_TAIL = (1 + 2 + 20) * BLOCK
# More than this is not hashed to find out whether a file has come to its end: it would hold up all others.
MOST_HASHED = 1 << 28
# What a file that is packed may end in: a page of zeros.
PAGE = 4096

ENDS_IN_ZEROS = "it ends in zeros, as what is being written may"
HAS_HOLES = "parts of it were not written, or are sparse"
IS_OPEN = "a program has it open for writing"


def why_not_yet(candidate: Candidate, sight: Sight, rules: WatchRules, spool: Path) -> str:
    """Why the file, which holds still, is not to be taken yet; empty where it is.

    Signs of a writer count for as long as the rules have patience. A temporary name in a folder counts for ever: the
    folder would be archived without what was to get another name.
    """
    if rules.marker:
        return ""
    if rules.packs and (name := _in_flight_within(candidate.path, rules)):
        return f"it holds {quoted(name)}, which is being written or was left behind (then remove it)"
    if sight.waited >= rules.settle + rules.patience:
        return ""
    if sight.flaw is None:
        sight.flaw = _flaw_of(candidate, rules, spool)
    return sight.flaw or ("" if sight.is_renamed else _sign_of_writer(candidate, rules))


def _flaw_of(candidate: Candidate, rules: WatchRules, spool: Path) -> str:
    """Why the content of the file is not whole; empty where it is, or where its job will say what is wrong."""
    try:
        if rules.packs:
            return _flaw_of_folder(candidate.path, rules)
        if rules.kind is JobKind.MOVE:
            with DocumentFile(candidate.path) as file:
                Document.parse(file.pieces(), _ignore)
            return ""
        return _flaw_of_bundle(candidate.path, spool)
    except (BundleError, MetadataError, FileRefused) as error:
        return str(error)
    except Exception:  # noqa: BLE001 - such as a file that may not be read
        return ""


def _sign_of_writer(candidate: Candidate, rules: WatchRules) -> str:
    """Why the disk and the kernel let one think that somebody is writing to the file; empty where nothing does."""
    paths = [entry.path for entry in _packed(candidate.path, rules)] if rules.packs else [candidate.path]
    return next(filter(None, map(_sign_at, paths)), "")


def _packed(folder: Path, rules: WatchRules) -> Iterator[Entry]:
    """The files of the folder that are packed. What cannot be looked at is complained of then."""
    entries = islice(walk(folder, "", rules.packing, lambda *_: None), MAX_ENTRIES)
    return (entry for entry in entries if entry.reason is None)


def _in_flight_within(folder: Path, rules: WatchRules) -> str:
    """The path in the folder of a file whose name is a temporary one, or is in such a folder; empty where none is."""
    names = (entry.name for entry in _packed(folder, rules))
    return next((name for name in names if any(map(IN_FLIGHT_WITHIN.search, name.split("/")))), "")


def _flaw_of_bundle(path: Path, spool: Path) -> str:
    with Bundle(path, spool) as bundle:
        document = Document.parse(bundle.read_metadata(), _ignore)
        listed = [find_position(bundle, entry) for entry in document.files]
        is_packed = fingerprint_of(os.fstat(bundle.descriptor)) != bundle.fingerprint
        if is_packed or not bundle.members:
            return ""  # what was unpacked came to its end
        position = len(bundle.members) - 1
        last = bundle.members.at(position)
        if position in listed and _ends_in_zero(bundle, last):
            if last.size > MOST_HASHED:
                return ENDS_IN_ZEROS
            entry = document.files[listed.index(position)]
            entry.require_usable_hash()
            content_of(bundle, last, entry, lambda _: None).verify()
        return ENDS_IN_ZEROS if _has_long_tail(bundle, last) else ""


def _ends_in_zero(bundle: Bundle, member: Member) -> bool:
    return member.size > 0 and os.pread(bundle.descriptor, 1, member.offset + member.size - 1) == b"\0"


def _has_long_tail(bundle: Bundle, last: Member) -> bool:
    tail = os.fstat(bundle.descriptor).st_size - last.offset - last.size
    return tail > LONGEST_TAIL and _is_zero_at_end(bundle.descriptor, LONGEST_TAIL)


def _flaw_of_folder(folder: Path, rules: WatchRules) -> str:
    for entry in _packed(folder, rules):
        with suppress(OSError), _opened(entry.path) as descriptor:
            if entry.found.st_size and _is_zero_at_end(descriptor, PAGE):
                return f"{quoted(entry.name)} in it: {ENDS_IN_ZEROS}"
    return ""


def _is_zero_at_end(descriptor: int, length: int) -> bool:
    """Whether the last bytes of the file are all zeros: so many, or all that there are."""
    return not any(os.pread(descriptor, length, max(0, os.fstat(descriptor).st_size - length)))


def _sign_at(path: Path) -> str:
    with suppress(OSError), _opened(path) as descriptor:
        if _is_open_for_writing(descriptor):
            return IS_OPEN
        if os.lseek(descriptor, 0, os.SEEK_HOLE) < os.fstat(descriptor).st_size:
            return HAS_HOLES
    return ""


def _is_open_for_writing(descriptor: int) -> bool:
    """Whether somebody has the file open for writing, as far as the kernel tells: of our own files on local disks."""
    try:
        # Who opens the file for writing in just this moment makes the kernel send a signal. That of its own choice
        # would end us; this one is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except (AttributeError, OSError):
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # A file may have become a FIFO or a link since it was looked at.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _ignore(_problem: IngestError) -> None:
    """A record that is wrong is no sign of a writer: the job will say so."""
