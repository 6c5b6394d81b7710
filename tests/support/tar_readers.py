"""What other programs see in a tar: the files by name, with their bytes."""

import ctypes
import ctypes.util
import io
import os
import re
import shutil
import subprocess
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from ingest_cli.bundle.reader import Bundle

Files = dict[str, bytes]
Reader = Callable[[Path], Files | None]
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
GNU_LISTED = re.compile(rb'[-C][-r]\S+ +\S+ +(\d+) [^"]*"(.*)"')
BSD_LISTED = re.compile(rb"-\S+ +\d+ +\S+ +\S+ +(\d+) \w+ +\d+ +[-:\d]+ (.*)")
WARNING, END = -20, 1
REGULAR, FOLDER = 0o100000, 0o040000
ESCAPED = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def by_us(path: Path) -> Files:
    """What we see. Raises IngestError where we refuse the tar."""
    with Bundle(path, path.parent / "spool") as bundle:
        return {
            member.name: os.pread(bundle.descriptor, member.size, member.offset) for member in bundle.members.values()
        }


def by_tarfile(path: Path) -> Files | None:
    """What Python's tarfile sees; None where it fails."""
    try:
        with tarfile.open(path, encoding="utf-8") as tar:
            members = [member for member in tar if not member.isdir()]
            if not all(member.isreg() for member in members):
                return None
            return _collected((member.name, tar.extractfile(member).read()) for member in members)  # type: ignore[union-attr]
    except (tarfile.TarError, OSError, ValueError, OverflowError):
        return None


def by_gnu_tar(path: Path) -> Files | None:
    """What GNU tar sees."""
    done = _run("tar", "-xvvOf", path, "--quoting-style=c", "--numeric-owner", "--full-time")
    return _listed(done.stderr, GNU_LISTED, done.stdout)


def by_bsdtar(path: Path) -> Files | None:
    """What bsdtar sees, which ends at a time that it cannot show."""
    listing = _run("bsdtar", "-tvf", path, "--numeric-owner").stdout
    return _listed(listing, BSD_LISTED, _run("bsdtar", "-xOf", path).stdout)


def by_libarchive(path: Path) -> Files | None:
    """What libarchive, on which bsdtar stands, sees in a tar; what other formats it takes some for is left out."""
    library = _libarchive()
    archive, entry = ctypes.c_void_p(library.archive_read_new()), ctypes.c_void_p()
    try:
        library.archive_read_support_format_tar(archive)
        if library.archive_read_open_filename(archive, os.fsencode(path), ctypes.c_size_t(10240)) != 0:
            return None
        found: list[tuple[str, bytes]] = []
        while (status := library.archive_read_next_header(archive, ctypes.byref(entry))) in (0, WARNING):
            kind, name = library.archive_entry_filetype(entry), library.archive_entry_pathname(entry)
            if kind == REGULAR and name is not None and library.archive_entry_hardlink(entry) is None:
                found.append((os.fsdecode(name), _content_at(library, archive)))
            elif kind != FOLDER:
                return None
        return _collected(found) if status == END else None
    finally:
        library.archive_read_free(archive)


@cache
def _libarchive() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("archive"))
    library.archive_read_new.restype = ctypes.c_void_p
    library.archive_entry_pathname.restype = library.archive_entry_hardlink.restype = ctypes.c_char_p
    library.archive_read_data.restype = ctypes.c_ssize_t
    return library


def _content_at(library: ctypes.CDLL, archive: ctypes.c_void_p) -> bytes:
    content, buffer = b"", ctypes.create_string_buffer(65536)
    while (length := library.archive_read_data(archive, buffer, ctypes.c_size_t(65536))) > 0:
        content += buffer.raw[:length]
    return content if length == 0 else content + b" and an error"


def _listed(listing: bytes, line_of_file: re.Pattern[bytes], content: bytes) -> Files | None:
    """The files of a listing with sizes, whose ``content`` stands one behind the other."""
    found, rest = [], io.BytesIO(content)
    for line in listing.splitlines():
        listed = line_of_file.fullmatch(line)
        if listed is not None:
            found.append((_unescaped(listed[2]).decode("utf-8", "surrogateescape"), rest.read(int(listed[1]))))
        elif re.match(rb"[^-dCt][-r]", line):
            return None  # a link, or something else that is no file
    return None if rest.read(1) else _collected(found)


READERS: dict[str, Reader] = {"tarfile": by_tarfile, "GNU tar": by_gnu_tar, "libarchive": by_libarchive}
ALL_READERS = {**READERS, "bsdtar": by_bsdtar}


def are_installed() -> bool:
    """Whether the other readers are all there."""
    return bool(shutil.which("tar") and shutil.which("bsdtar") and ctypes.util.find_library("archive"))


def disagreements(path: Path, ours: Files, readers: Mapping[str, Reader] = READERS) -> dict[str, Files | None]:
    """What those of the other readers see in the tar who do not see what we do."""
    known = _collected(ours.items())
    return {name: files for name, read in readers.items() if (files := read(path)) != known}


def _collected(found: Iterable[tuple[str, bytes]]) -> Files | None:
    """Names without empty and ``.`` parts, in one Unicode form, as bsdtar gives them. None where one is there twice."""
    files: Files = {}
    for name, content in found:
        plain = unicodedata.normalize("NFC", "/".join(part for part in name.split("/") if part not in ("", ".")))
        if plain in files:
            return None
        files[plain] = content
    return files


def _run(*words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(map(str, words)), capture_output=True, env=ENVIRONMENT, timeout=60)


def _unescaped(text: bytes) -> bytes:
    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        return bytes([int(code, 8)]) if len(code) == 3 else ESCAPES.get(code, code)

    return ESCAPED.sub(plain, text)
