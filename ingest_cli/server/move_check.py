"""Looks through the document of a move before its job is queued: whether it is one, and whether its files may be moved.

Such a document may be long, and may not be what it seems. So it is never parsed as a whole: it is read a piece at a
time, and each of its records is parsed by itself, then forgotten.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..bundle.bounds import MAX_OBJECTS
from ..errors import MetadataError, SourceError
from ..pipeline.sources import SourceRules
from ..settings import Settings
from ..text import counted

PIECE_BYTES = 1 << 20
# A record is of one file, or of one value. While one is parsed, which is one call, no other thread does anything.
LONGEST_RECORD = 1 << 20
BLANKS = re.compile(r"[ \t\n\r]*")


def require_movable(document: Path, settings: Settings) -> None:
    """Raise MetadataError where it is no document, SourceRefused where the server may not move one of its sources."""
    rules = SourceRules(settings, over_http=True)
    # Of what only the archive sees nothing but the name is known.
    require: Callable[[Path], object] = rules.require_name if settings.remote_sources else rules.place_of
    try:
        with document.open("rb") as file:
            for record in _records(file):
                source = record.get("source")
                if isinstance(source, str):
                    require(Path(source))
    except OSError as error:
        raise SourceError(f"cannot read {document}: {error.strerror}") from error


def _records(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The records of the list in ``file``, one after the other. Raises MetadataError."""
    text = _Text(file)
    text.expect("[")
    if text.next() == "]":
        text.expect("]")
    else:
        for number in range(MAX_OBJECTS):
            yield text.take_object(number)
            if text.next() == "]":
                break
            text.expect(",")
        else:
            raise MetadataError(f"the document has more than {counted(MAX_OBJECTS, 'record')}")
        text.expect("]")
    if text.next() != "":
        raise MetadataError("the document is not JSON: something follows its list")


class _Text:
    """What is left of a text, of which no more is held than is looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder(json.detect_encoding(file.read(4)))().decode
        file.seek(0)
        self._parse = json.JSONDecoder().raw_decode
        self._text, self._at, self._is_all = "", 0, False

    def next(self) -> str:
        """The next character that is no blank; none at the end."""
        while True:
            blanks = BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text) or self._is_all:
                return self._text[self._at : self._at + 1]
            self._read()

    def expect(self, character: str) -> None:
        """Pass by this character, which must be the next."""
        if self.next() != character:
            raise MetadataError("the document is not a JSON list of records")
        self._at += 1

    def take_object(self, number: int) -> dict[str, Any]:
        """Take an object, which must be the next: the record of this number."""
        if self.next() != "{":
            raise MetadataError(f"record {number} of the document is not a JSON object")
        while True:
            try:
                # An object has an end of its own: it is whole, or it cannot be parsed.
                record, self._at = self._parse(self._text, self._at)
                return dict(record)
            except RecursionError:
                raise MetadataError(f"record {number} of the document is nested too deeply") from None
            except ValueError as error:
                if self._is_all:
                    raise MetadataError(f"record {number} of the document is not JSON") from error
            if len(self._text) - self._at > LONGEST_RECORD:
                raise MetadataError(f"record {number} of the document is not JSON, or too long")
            self._read()

    def _read(self) -> None:
        piece = self._file.read(PIECE_BYTES)
        self._is_all = not piece
        try:
            decoded = self._decode(piece, final=self._is_all)
        except UnicodeError:
            raise MetadataError("the document is not UTF-8, nor UTF-16 or UTF-32") from None
        self._text, self._at = self._text[self._at :] + decoded, 0
