"""What extended headers say of the member after them: POSIX's (pax), Solaris', and GNU's for long names.

Where two of them speak of one thing, readers of tars disagree, and the tar is refused.
"""

import re

from ..errors import BundleError
from ..text import quoted
from .header import text_of

# Solaris' X is pax's x by another name; L and K are GNU's, for the name of a member and of what a link points to.
KINDS = {b"x": "x", b"X": "x", b"g": "g", b"L": "L", b"K": "K"}
# A PAX or GNU header longer than this describes nothing that a bundle may hold.
MAX_EXTENSION_BYTES = 1 << 20

Records = dict[str, str]
LENGTH = re.compile(rb"([0-9]{1,8}) ")
SIZE = re.compile(r"[0-9]{1,19}", re.ASCII)
CHARSETS = (b"ISO-IR 10646 2000 UTF-8", b"BINARY")
# Of sparse files, by GNU tar and bsdtar, star, and Solaris: their bytes are not those of the file as they are.
SPARSE_KEYS = (b"GNU.sparse", b"SCHILY.realsize", b"SUN.holesdata")


class Extensions:
    """What the extended headers that were read so far say, of all members and of the next one."""

    def __init__(self) -> None:
        self._of_all: Records = {}
        self._of_next: Records = {}
        self._seen: set[str] = set()

    @property
    def are_pending(self) -> bool:
        """Whether they wait for a member."""
        return bool(self._seen)

    def of_member(self) -> Records:
        """What they say of the member whose own header has come now: its ``path``, ``size`` and ``mtime``, that it is
        ``sparse``, and its ``real path`` then."""
        if not self._seen:
            return self._of_all
        records = {**self._of_all, **self._of_next}
        self._of_next = {}
        self._seen.clear()
        return records

    def take(self, kind: bytes, body: bytes, length: int) -> None:
        """Take a header of this kind. Its ``body`` is of so many bytes, and filled up to whole blocks.

        Raises BundleError.
        """
        header = KINDS[kind]
        if header in self._seen or (header == "g" and self._seen):
            raise BundleError(f"damaged tar: one member has two extended headers, the second of the type {header!r}")
        self._seen.add(header)
        if header == "L":
            self._take_of_next({"path": _long_name(body, length)})
        elif header == "x":
            self._take_of_next(_records(body, length))
        elif header == "g":
            self._of_all |= _records_of_all(body, length)

    def _take_of_next(self, records: Records) -> None:
        name, other = self._of_next.get("path"), records.get("path")
        if name is not None and other is not None and name != other:
            raise BundleError(
                f"a member has two names, {quoted(name)} and {quoted(other)}: readers of tars differ there"
            )
        self._of_next |= records


def size_of(records: Records, own: int) -> int:
    """The size of a member whose own header says that it is ``own``."""
    given = records.get("size")
    if given is None:
        return own
    if SIZE.fullmatch(given) is None:
        raise BundleError(f"damaged tar: an extended header gives the size {quoted(given)}")
    return int(given)


def _long_name(body: bytes, length: int) -> str:
    name = body.partition(b"\0")[0]
    if not 0 < len(name) <= length:
        raise BundleError("damaged tar: the long name in a GNU header is empty, or does not end with it")
    return text_of(name)


def _records_of_all(body: bytes, length: int) -> Records:
    records = _records(body, length)
    for key in records:
        if key != "mtime":
            raise BundleError(
                f"a header of the whole tar gives {key}, which each member has of its own: readers of tars differ there"
            )
    return records


def _records(body: bytes, length: int) -> Records:
    """The ``length key=value\n`` records (POSIX pax, "pax Header Block") that say what a member is, or when it was."""
    records: Records = {}
    start = 0
    while start < length:
        end = _end_of_record(body, start, length)
        key, _, value = body[body.index(b" ", start) + 1 : end - 1].partition(b"=")
        start = end
        if key in (b"path", b"size") and key.decode() in records:
            raise BundleError(f"damaged tar: an extended header gives two of {key.decode()}")
        if key == b"path":
            records["path"] = text_of(value)
        elif key in (b"size", b"mtime"):
            records[key.decode()] = value.decode("ascii", "replace")
        elif key.startswith(SPARSE_KEYS):
            records["sparse"] = key.decode("ascii", "replace")
            if key == b"GNU.sparse.name":
                records["real path"] = text_of(value)
        elif key == b"hdrcharset" and value not in CHARSETS:
            raise BundleError(f"the names in the tar are not UTF-8, but {quoted(value)}")
    # Some readers look for records in the rest of the last block too.
    if length == 0 or body[length:] != bytes(len(body) - length):
        raise BundleError("damaged tar: an extended header is empty, or goes on behind its end")
    if records.get("path") == "":
        raise BundleError("damaged tar: an extended header gives an empty name")
    return records


def _end_of_record(body: bytes, start: int, length: int) -> int:
    digits = LENGTH.match(body, start)
    if digits is None:
        raise BundleError("damaged tar: an extended header's record has no length")
    end = start + int(digits[1])
    if end > length or body.find(b"=", digits.end(), end) <= digits.end() or body[end - 1] != 0x0A:
        raise BundleError("damaged tar: an extended header's record is truncated")
    return end
