"""What a catalogue is asked for: the files of which all that is given holds."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import chain, groupby

from ..bundle.listed import HASH_TYPES, HEX
from ..errors import SettingsError
from ..text import listed, quoted

# A bracketed set, which may begin with the bracket that would end it; or what stands for any text; or for a character.
WILDCARD = re.compile(r"\[!?+\]?+[^\]]*\]|\*|\?")
TOP_FOLDER = "data/"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileQuery:
    """Which files are asked for: all where nothing is given, else those of which all that is given holds.

    ``name`` and ``path`` are globs as find(1) has them, for the name alone and for all of the path in the bundle, with
    or without its ``data/``; the Unicode form of either does not count. ``hashsum`` is of one of the ``hashtypes``.
    Each of ``pairs`` is a key and its value, of the transaction or of the file. The rest is of the transaction; it was
    recorded from ``since`` on and before ``until``, which are of UTC where they have no zone. Raises SettingsError for
    what is not valid UTF-8.
    """

    name: str = ""
    path: str = ""
    hashsum: str = ""
    hashtypes: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    project: str = ""
    instrument: int | None = None
    submitter: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        for text in (self.name, self.path, self.project, *chain.from_iterable(self.pairs)):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise SettingsError(f"{quoted(text)} is not valid UTF-8, as all text in a catalogue is") from error

    @property
    def is_of_transactions(self) -> bool:
        """Whether something of the transaction is given."""
        given = (self.instrument, self.submitter, self.since, self.until)
        return bool(self.project) or any(value is not None for value in given)

    def matches(self, *, name: str, path: str, hashtype: str, hashsum: str) -> bool:
        """Whether all that is given of a file itself holds of this one, whatever its transaction."""
        return (
            (not self.name or fnmatchcase(composed(name), composed(self.name)))
            and (not self.path or self._matches_path(composed(path)))
            and (not self.hashsum or (hashsum == self.hashsum and hashtype in self.hashtypes))
        )

    def _matches_path(self, path: str) -> bool:
        glob = composed(self.path)
        return fnmatchcase(path, glob) or fnmatchcase(path.removeprefix(TOP_FOLDER), glob)


def hash_of(text: str) -> tuple[str, tuple[str, ...]]:
    """The hash, in lower case, that is written as ``HEX`` or ``TYPE:HEX``; and of which types it can be.

    Raises SettingsError.
    """
    given, colon, rest = text.rpartition(":")
    hashsum = rest.lower()
    types = [name for name in sorted(HASH_TYPES) if _length(name) == len(hashsum)]
    if colon:
        types = [name for name in types if name == given.lower()]
    if not types or HEX.fullmatch(hashsum) is None:
        known = listed(sorted(HASH_TYPES), len(HASH_TYPES))
        raise SettingsError(f"{quoted(text)} is no hash: give it in hex, as HEX or TYPE:HEX, of one of {known}")
    return hashsum, tuple(types)


def in_utc(moment: datetime, separator: str) -> str:
    """The moment as a catalogue writes it, with this between the day and the time."""
    return (moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)).isoformat(separator)


def is_exact(glob: str) -> bool:
    """Whether it matches nothing but itself, character by character."""
    return WILDCARD.search(glob) is None and not any(map(_has_forms, glob))


def widened(glob: str) -> Iterator[tuple[str, bool]]:
    """The pieces of a simpler glob, which matches what this one does in any Unicode form, and perhaps more.

    They are text, and ``*`` or ``?``; each comes with whether it is one of these.
    """
    glob, position = composed(glob), 0
    for found in WILDCARD.finditer(glob):
        yield from _without_forms(glob[position : found.start()])
        # What is one character in one form may be several in another.
        yield from [("*", True)] if found[0] == "*" else [("?", True), ("*", True)]
        position = found.end()
    yield from _without_forms(glob[position:])


def composed(text: str) -> str:
    """The text in the one of its Unicode forms by which names are compared: on a Mac they may have another one."""
    return unicodedata.normalize("NFC", text)


def _without_forms(text: str) -> Iterator[tuple[str, bool]]:
    for has_forms, chars in groupby(text, _has_forms):
        yield ("*", True) if has_forms else ("".join(chars), False)


def _has_forms(char: str) -> bool:
    """Whether the character, or a part of it, may be written in another way."""
    return bool(unicodedata.combining(char)) or unicodedata.normalize("NFD", char) != char


def _length(hashtype: str) -> int:
    return 2 * hashlib.new(hashtype, usedforsecurity=False).digest_size
