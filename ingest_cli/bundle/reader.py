"""A bundle: a tar with files under ``data/`` and the document ``metadata.txt``, opened once and indexed once."""

import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self, cast

from rich.filesize import decimal

from ..disk import RESERVE_BYTES, close_in_vain, explained, open_regular
from ..errors import (
    BundleError,
    MetadataError,
    OnProblem,
    ResourceUnavailable,
    SourceChanged,
    SourceError,
    raise_problem,
)
from ..text import quoted
from . import tar
from .compression import Compression, compression_of, unpacked
from .fingerprint import fingerprint_of
from .header import BLOCK, is_header
from .members import Members
from .sums import Sums, proven_sums
from .tar import Member

METADATA_NAME = "metadata.txt"
DATA_FOLDER = "data/"
PIECE_BYTES = 1 << 20


class Fetched(NamedTuple):
    """A file that was got from where it lies: ``file`` is this process's own, and ``fingerprint`` that of what it was
    got from."""

    file: BinaryIO
    fingerprint: str


class DocumentFile:
    """A document that lies on the disk by itself, open for reading. ``fingerprint`` is that of the very file.

    What is longer than ``limit``, in bytes, is refused before it is read. Raises SourceError and MetadataError.
    """

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self._path = path
        try:
            self._file = open_regular(path)
        except OSError as error:
            raise explained(error, f"cannot read {path}", SourceError, path) from error
        found = os.fstat(self._file.fileno())
        self.fingerprint = fingerprint_of(found)
        try:
            _require_short(str(path), found.st_size, limit)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def pieces(self) -> Iterator[bytes]:
        """The bytes, in pieces. Raises SourceChanged at the end where the file was written to meanwhile."""
        try:
            while piece := self._file.read(PIECE_BYTES):
                yield piece
            found = os.fstat(self._file.fileno())
        except OSError as error:
            raise explained(error, f"cannot read {self._path}", SourceError, self._path) from error
        if fingerprint_of(found) != self.fingerprint:
            raise SourceChanged(f"{self._path} was modified while it was read")


def require_bundle(path: Path, name: str) -> None:
    """Raise BundleError where a file begins with nothing that a bundle begins with, packed or not; SourceError.

    Whether the rest of it is one is not looked at. ``name`` is what a person knows it by.
    """
    try:
        with open_regular(path) as file:
            head = os.pread(file.fileno(), BLOCK, 0)
            compression = None if is_header(head) else compression_of(head)
            if compression is not None:
                head = _first_block(file, path, compression)
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError, path) from error
    except BundleError:
        return  # it is damaged, and a run says where
    if not is_header(head):
        raise _not_a_tar(name)


def require_document(path: Path, name: str) -> None:
    """Raise MetadataError where a file begins with nothing that a list in JSON begins with; SourceError."""
    try:
        with open_regular(path) as file:
            head = file.read(BLOCK).lstrip(b" \t\r\n\0")
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError, path) from error
    # What is not ASCII may be another encoding, of which a run has more to say.
    if head[:1].isascii() and not head.startswith(b"["):
        raise MetadataError(f"{name} is not a list in JSON, or is empty")


class Bundle:
    """A bundle open for reading. ``fingerprint`` is that of the very file that was opened.

    ``descriptor`` is a file descriptor of the uncompressed tar: the member's bytes lie at ``member.offset``.
    A compressed bundle is unpacked once into a nameless file in ``spool``, gone when the bundle is closed. One that was
    ``fetched`` from elsewhere is read from there, and ``path`` is what people know it by.
    Members that no bundle may hold are reported to ``on_problem``. ``require`` is called all the time while the tar is
    unpacked and indexed, and ``observe`` is told the length of each unpacked piece; both may raise to stop. Raises
    SourceError, BundleError, BundleTruncated or ResourceUnavailable.
    """

    def __init__(
        self,
        path: Path,
        spool: Path,
        on_problem: OnProblem = raise_problem,
        *,
        require: Callable[[], None] = lambda: None,
        observe: Callable[[int], None] = lambda _: None,
        fetched: Fetched | None = None,
    ) -> None:
        self.path = path
        self._file, self.fingerprint = _open_tar(path, spool, require, observe, fetched)
        self.descriptor = self._file.fileno()
        try:
            if not is_header(os.pread(self.descriptor, BLOCK, 0)):
                raise _not_a_tar(path)
            self.members = self._index(on_problem, require)
        except OSError as error:
            self.close()
            raise explained(error, f"cannot read {path}", SourceError, path) from error
        except BaseException:
            self.close()
            raise
        self._by_form: dict[str, int | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the tar. The bundle itself is left as it was."""
        self._file.close()

    def read_metadata(self, limit: int | None = None) -> Iterator[bytes]:
        """The bytes of ``metadata.txt``, in pieces.

        Raises MetadataError where it is missing, or longer than ``limit``, in bytes.
        """
        member = self.members.get(METADATA_NAME)
        if member is None:
            raise MetadataError(f"{self.path} contains no {METADATA_NAME}")
        _require_short(METADATA_NAME, member.size, limit)
        return self._pieces(member)

    def _pieces(self, member: Member) -> Iterator[bytes]:
        for start in range(0, member.size, PIECE_BYTES):
            try:
                yield os.pread(self.descriptor, min(PIECE_BYTES, member.size - start), member.offset + start)
            except OSError as error:
                raise explained(error, f"cannot read {self.path}", SourceError, self.path) from error

    @cached_property
    def sums(self) -> Sums:
        """What is known of the hashes of its files, without reading them."""
        return proven_sums(self.descriptor)

    def find(self, name: str) -> Member | None:
        """The member of this name, or the only one whose name is the same text in another Unicode form."""
        position = self.position(name)
        return None if position is None else self.members.at(position)

    def position(self, name: str) -> int | None:
        """The position in ``members`` of what `find` finds."""
        found = self.members.position(name)
        if found is not None or name.isascii():
            return found
        if self._by_form is None:
            self._by_form = _by_form(self.members)
        return self._by_form.get(unicodedata.normalize("NFC", name))

    def _index(self, on_problem: OnProblem, require: Callable[[], None]) -> Members:
        index = Members()
        for member in tar.members(self.descriptor, on_problem, require):
            if not index.add(member):
                on_problem(BundleError(f"{quoted(member.name)} occurs twice in the tar"))
        return index


def _require_short(name: str, length: int, limit: int | None) -> None:
    if limit is not None and length > limit:
        raise MetadataError(
            f"{name} is {decimal(length)} long; the limit is {decimal(limit)}, the document_limit of the configuration"
        )


def _by_form(members: Members) -> dict[str, int | None]:
    """The positions of members by one Unicode form of their names; None for those that have it in common."""
    found: dict[str, int | None] = {}
    for position, name in enumerate(members):
        form = unicodedata.normalize("NFC", name)
        found[form] = None if form in found else position
    return found


def _open_tar(
    path: Path,
    spool: Path,
    require: Callable[[], None],
    observe: Callable[[int], None],
    fetched: Fetched | None,
) -> tuple[BinaryIO, str]:
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(open_regular(path) if fetched is None else fetched.file)
            opened = fingerprint_of(os.fstat(raw.fileno()))
            head = os.pread(raw.fileno(), BLOCK, 0)
        except OSError as error:
            raise explained(error, f"cannot read {path}", SourceError, path) from error
        known = opened if fetched is None else fetched.fingerprint
        # A tar's own first name may begin as compressed files do.
        compression = None if is_header(head) else compression_of(head)
        if compression is None:
            stack.pop_all()
            return raw, known
        plain = _unpack(raw, path, compression, spool, require, observe)
        if fingerprint_of(os.fstat(raw.fileno())) != opened:
            plain.close()
            raise SourceChanged(f"{path} was modified while it was unpacked")
        return plain, known


def _unpack(
    packed: BinaryIO,
    path: Path,
    compression: Compression,
    spool: Path,
    require: Callable[[], None],
    observe: Callable[[int], None],
) -> BinaryIO:
    cannot = f"cannot unpack {path} into {spool}"
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        plain = cast(BinaryIO, tempfile.TemporaryFile(dir=spool))  # noqa: SIM115 - the bundle closes it
    except OSError as error:
        raise explained(error, cannot, SourceError) from error
    head = b""
    try:
        for piece in unpacked(packed, path, compression, require):
            if len(head) < BLOCK:
                head += piece
                _require_tar(head, path)
            _require_room(plain, len(piece), cannot)
            plain.write(piece)
            observe(len(piece))
        plain.flush()
    except BaseException as error:
        close_in_vain(plain)
        if isinstance(error, OSError):
            raise explained(error, cannot, SourceError) from error
        raise
    return plain


def _first_block(packed: BinaryIO, path: Path, compression: Compression) -> bytes:
    head = b""
    for piece in unpacked(packed, path, compression, lambda: None):
        head += piece
        if len(head) >= BLOCK:
            break
    return head[:BLOCK]


def _require_tar(head: bytes, path: Path) -> None:
    """Raise BundleError as soon as the first bytes say that the rest is not worth unpacking."""
    if len(head) >= BLOCK and not is_header(head[:BLOCK]):
        raise _not_a_tar(path)


def _not_a_tar(path: Path | str) -> BundleError:
    return BundleError(f"{path} is not a tar, or is empty")


def _require_room(file: BinaryIO, length: int, cannot: str) -> None:
    """Raise ResourceUnavailable where so many bytes more would leave too little of the disk for the others."""
    disk = os.fstatvfs(file.fileno())
    free = disk.f_bavail * disk.f_frsize
    if free < length + RESERVE_BYTES:
        raise ResourceUnavailable(f"{cannot}: {decimal(free)} free, {decimal(RESERVE_BYTES)} in reserve")
