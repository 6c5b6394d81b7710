"""A bundle: a tar with files under ``data/`` and the document ``metadata.txt``, opened once and indexed once."""

import bz2
import gzip
import lzma
import os
import shutil
import tempfile
import unicodedata
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

from rich.filesize import decimal

from ..disk import explained
from ..errors import BundleError, BundleTruncated, MetadataError, OnProblem, SourceChanged, SourceError, raise_problem
from . import tar
from .fingerprint import fingerprint_of
from .tar import Member

METADATA_NAME = "metadata.txt"
DATA_FOLDER = "data/"
# A document of this size lists about half a million files; a larger one is refused before it is read.
MAX_METADATA_BYTES = 192 << 20


def read_document(path: Path) -> tuple[bytes, str]:
    """The bytes and the fingerprint of a document that lies on the disk by itself.

    Raises SourceError, SourceChanged where it was written to meanwhile, and MetadataError where it is too long.
    """
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size > MAX_METADATA_BYTES:
                raise MetadataError(
                    f"{path} is {decimal(before.st_size)} long; the limit is {decimal(MAX_METADATA_BYTES)}"
                )
            raw = file.read()
            if fingerprint_of(os.fstat(file.fileno())) != fingerprint_of(before):
                raise SourceChanged(f"{path} was modified while it was read")
            return raw, fingerprint_of(before)
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError, path) from error


class _Opener(Protocol):
    def __call__(self, raw: BinaryIO) -> BinaryIO: ...


COMPRESSIONS: dict[bytes, _Opener] = {
    b"\x1f\x8b": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),
    b"BZh": lambda raw: cast(BinaryIO, bz2.BZ2File(raw)),
    b"\xfd7zXZ\x00": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115
}


class Bundle:
    """A bundle open for reading. ``fingerprint`` is that of the very file that was opened.

    ``descriptor`` is a file descriptor of the uncompressed tar: the member's bytes lie at ``member.offset``.
    A compressed bundle is unpacked once into a nameless file in ``spool``, gone when the bundle is closed.
    Members that no bundle may hold are reported to ``on_problem``. Raises SourceError, BundleError or BundleTruncated.
    """

    def __init__(self, path: Path, spool: Path, on_problem: OnProblem = raise_problem) -> None:
        self.path = path
        self._file, self.fingerprint = _open_tar(path, spool)
        self.descriptor = self._file.fileno()
        try:
            if not tar.is_header(os.pread(self.descriptor, tar.BLOCK, 0)):
                raise BundleError(f"{path} is not a tar, or is empty")
            self.members = self._index(on_problem)
        except BaseException:
            self.close()
            raise
        self._by_form: dict[str, Member] | None = None

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

    def read_metadata(self) -> bytes:
        """The bytes of ``metadata.txt``. Raises MetadataError where it is missing or too large."""
        member = self.members.get(METADATA_NAME)
        if member is None:
            raise MetadataError(f"{self.path} contains no {METADATA_NAME}")
        if member.size > MAX_METADATA_BYTES:
            raise MetadataError(
                f"{METADATA_NAME} is {decimal(member.size)} long; the limit is {decimal(MAX_METADATA_BYTES)}"
            )
        return os.pread(self.descriptor, member.size, member.offset)

    def find(self, name: str) -> Member | None:
        """The member of this name, or the only one whose name is the same text in another Unicode form."""
        if name in self.members:
            return self.members[name]
        if name.isascii():
            return None
        if self._by_form is None:
            self._by_form = {unicodedata.normalize("NFC", key): member for key, member in self.members.items()}
        return self._by_form.get(unicodedata.normalize("NFC", name))

    def _index(self, on_problem: OnProblem) -> dict[str, Member]:
        index: dict[str, Member] = {}
        for member in tar.members(self.descriptor, on_problem):
            if member.name in index:
                on_problem(BundleError(f"{member.name!r} occurs twice in the tar"))
            index[member.name] = member
        return index


def _open_tar(path: Path, spool: Path) -> tuple[BinaryIO, str]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError, path) from error
    opened = fingerprint_of(os.fstat(raw.fileno()))
    magic = raw.read(6)
    raw.seek(0)
    for prefix, decompressor in COMPRESSIONS.items():
        if magic.startswith(prefix):
            with raw:
                plain = _decompress(decompressor(raw), path, spool)
                if fingerprint_of(os.fstat(raw.fileno())) != opened:
                    plain.close()
                    raise SourceChanged(f"{path} was modified while it was unpacked")
                return plain, opened
    return raw, opened


def _decompress(packed: BinaryIO, path: Path, spool: Path) -> BinaryIO:
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        plain = cast(BinaryIO, tempfile.TemporaryFile(dir=spool))  # noqa: SIM115 - the bundle closes it
    except OSError as error:
        raise explained(error, f"cannot unpack {path} into {spool}", SourceError) from error
    try:
        shutil.copyfileobj(packed, plain, 1 << 20)
        plain.flush()
    except EOFError as error:
        plain.close()
        raise BundleTruncated(f"{path} is truncated: {error}") from error
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
        plain.close()
        raise BundleError(f"{path} is damaged: {error}") from error
    except OSError as error:
        plain.close()
        # bz2 reports damaged data as an OSError without a number.
        if error.errno is None:
            raise BundleError(f"{path} is damaged: {error}") from error
        raise explained(error, f"cannot unpack {path} into {spool}", SourceError) from error
    return plain
