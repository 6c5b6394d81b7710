"""Reads a list in JSON from bytes that come in pieces, one value after the other: no more of it is in memory than the
text around one.

The text is always cut behind a closing brace, so never inside of a number or a word. What cannot be parsed up to there
is wrong, unless an object or a string goes on behind it.
"""

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NoReturn

from rich.filesize import decimal

from ..errors import MetadataError
from ..text import quoted
from .bounds import require_few_values

TEXT_CHARACTERS = 1 << 20
# A value is parsed as a whole.
MAX_VALUE_CHARACTERS = 64 << 20
# As many as a tar may have headers.
MAX_RECORDS = 10_000_000
BLANKS = re.compile(r"[ \t\n\r]*")
COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonList:
    """The list whose text the ``pieces`` are, in any of JSON's encodings: its values are what iterating yields, once.

    Raises MetadataError as soon as the text is not JSON, or not a list, or holds more than can be parsed in little time
    and memory. Whenever more is read, ``on_read`` is told how many characters have been parsed, and at least so many
    ``characters`` are read at once.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        on_read: Callable[[int], None] = lambda _: None,
        characters: int = TEXT_CHARACTERS,
    ) -> None:
        self._decoded = _decoded(pieces)
        self._on_read, self._characters = on_read, characters
        self._parse = _parser()
        # What is parsed, from where, and what stands behind it and is not looked at yet.
        self._text, self._at, self._rest = "", 0, ""
        self._is_all = self._may_have_halves = False
        self._number: int | None = None
        # How much stands before the text, for messages: in lines, and where the last of them begins.
        self._passed, self._lines, self._line_start = 0, 1, 0

    def __iter__(self) -> Iterator[Any]:
        if self._next() != "[":
            self._take()
            self._require_end()
            raise MetadataError("the metadata is not a list of records")
        self._at += 1
        yield from self._values()
        self._require_end()

    def _values(self) -> Iterator[Any]:
        """What is in the list, whose bracket has been passed."""
        self._number = 0
        if self._next() != "]":
            while True:
                yield self._take()
                if not self._pass_comma():
                    break
                self._number += 1
                if self._number == MAX_RECORDS:
                    raise MetadataError(f"the metadata lists more than {MAX_RECORDS:,} records")
            if self._next() != "]":
                raise self._wrong("Expecting ',' delimiter", self._at)
        self._at += 1

    def _pass_comma(self) -> bool:
        """Go on to what stands behind a comma, where that comes next."""
        comma = COMMA.match(self._text, self._at)
        if comma is not None and comma.end() < len(self._text):
            self._at = comma.end()
            return True
        if self._next() != ",":
            return False
        self._at += 1
        self._next()
        return True

    def _require_end(self) -> None:
        if self._next():
            raise self._wrong("Extra data", self._at)

    def _next(self) -> str:
        """The next character that is no blank; none at the end."""
        while True:
            blanks = BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text) or self._is_all:
                return self._text[self._at : self._at + 1]
            self._read()

    def _take(self) -> Any:
        """The value that begins here."""
        while True:
            try:
                value, self._at = self._parse(self._text, self._at)
                break
            except json.JSONDecodeError as error:
                if self._is_all or not self._may_go_on(error):
                    raise self._wrong(error.msg, error.pos) from None
            except ValueError:
                raise MetadataError("the metadata holds a number of thousands of digits") from None
            self._read()
        if self._may_have_halves:
            _require_text(value, self._number)
        return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        return error.pos >= len(self._text) or error.msg.startswith("Unterminated string")

    def _read(self) -> None:
        """Let go of what was parsed, and read on: what is left of the text is doubled at least."""
        self._pass(self._at)
        self._on_read(self._passed)
        left = self._text[self._at :] + self._rest
        if len(left) > MAX_VALUE_CHARACTERS:
            limit = decimal(MAX_VALUE_CHARACTERS)
            raise MetadataError(f"metadata record {self._number or 0} is longer than {limit}, or is no JSON object")
        pieces, length, wanted = [left], 0, max(self._characters, len(left))
        while length < wanted and not self._is_all:
            piece = next(self._decoded, None)
            self._is_all = piece is None
            pieces.append(piece or "")
            length += len(pieces[-1])
        text = "".join(pieces)
        end = len(text) if self._is_all else text.rfind("}") + 1
        self._text, self._at, self._rest = text[:end], 0, text[end:]
        self._look_at_text()

    def _look_at_text(self) -> None:
        """Raise MetadataError where the text, before it is parsed, is seen to hold what must not be there."""
        around = "" if self._number is None else "["
        require_few_values(f"{around}{self._text}".encode())
        if r"\u" in self._text:
            if ESCAPED_NUL.search(self._text):
                raise MetadataError("the metadata contains a NUL character")
            self._may_have_halves = ESCAPED_SURROGATE.search(self._text) is not None
        else:
            self._may_have_halves = False

    def _pass(self, end: int) -> None:
        self._lines += self._text.count("\n", 0, end)
        last = self._text.rfind("\n", 0, end)
        if last >= 0:
            self._line_start = self._passed + last + 1
        self._passed += end

    def _wrong(self, message: str, position: int) -> MetadataError:
        self._pass(position)
        column = self._passed - self._line_start + 1
        return MetadataError(
            f"the metadata is not JSON: {message}: line {self._lines} column {column} (char {self._passed})"
        )


def _decoded(pieces: Iterable[bytes]) -> Iterator[str]:
    """The text, without its byte order mark."""
    rest = iter(pieces)
    head = b""
    for piece in rest:
        head += piece
        if len(head) >= 4:  # as many as tell the encoding
            break
    encoding = json.detect_encoding(head).removesuffix("-sig")
    decoder = codecs.getincrementaldecoder(encoding)()
    is_first, read = True, 0
    while True:
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(head, final=not head)
        except UnicodeDecodeError as error:
            place = read - pending + error.start
            raise MetadataError(f"the metadata is not {encoding.upper()} (byte {place})") from None
        if text:
            yield text.removeprefix("\ufeff") if is_first else text
            is_first = False
        if not head:
            return
        read += len(head)
        head = next(filter(None, rest), b"")


@cache
def _parser() -> Callable[[str, int], tuple[Any, int]]:
    """What parses one value, and says where it ends."""
    return json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse_constant).raw_decode


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values. Which of two values of a key counts, readers of JSON do not agree upon."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise MetadataError(f"the metadata has an object with two values of {quoted(key)}")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise MetadataError(f"the metadata holds the number {quoted(number)}, which is out of range")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise MetadataError(f"the metadata is not JSON: {name} is not a JSON number")


def _require_text(value: Any, number: int | None) -> None:
    """Raise MetadataError where a string in the value cannot be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise MetadataError(
            f"metadata record {number} contains half of a surrogate pair, which is not valid text"
        ) from None
