"""What bounds a metadata document before anything is built of it: its bytes alone tell, at some 500 MB a second."""

import json

from ..errors import MetadataError

# They are of what is parsed at once: of a record, or of a megabyte of them, which honest ones stay far below. A deeper
# one was written to harm.
MAX_OBJECTS = 2_000_000
MAX_VALUES = 8_000_000
MAX_DEPTH = 32

_STRUCTURE = b'[]{}",'
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))
_PIECE = 1 << 16


def require_bounded(raw: bytes) -> None:
    """Raise MetadataError where the JSON in ``raw`` holds too many values, or is nested too deeply, to be parsed.

    What passes can be parsed in little time and memory. It need not be JSON: up to where it is not, it is bounded.
    """
    require_few_values(as_utf8(raw))


def require_few_values(text: bytes) -> None:
    """Do what `require_bounded` does, with a text in UTF-8."""
    structure = _structure(text)
    objects, values = structure.count(b"["), structure.count(b",")
    if objects > MAX_OBJECTS:
        raise MetadataError(f"the metadata holds more than {MAX_OBJECTS:,} objects and lists")
    if values > MAX_VALUES:
        raise MetadataError(f"the metadata holds more than {MAX_VALUES:,} values")
    if _is_deep(structure.replace(b",", b"")):
        raise MetadataError(f"the metadata is nested too deeply: the limit is {MAX_DEPTH} levels")


def as_utf8(raw: bytes) -> bytes:
    """The bytes of a JSON text, as UTF-8 where they are UTF-16 or UTF-32. Raises MetadataError where they are not."""
    encoding = json.detect_encoding(raw)
    if encoding.startswith("utf-8"):
        return raw
    try:
        return raw.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise MetadataError(f"the metadata is not {encoding.upper()} (byte {error.start})") from None


def _structure(raw: bytes) -> bytes:
    """The brackets and commas of the text that do not stand in a string, with braces as brackets."""
    if b"\\" in raw:
        raw = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    found = raw.translate(_BRACES_TO_BRACKETS, _ALL_BUT_STRUCTURE)
    # Most strings are empty by now. Where "" is the end of one and the start of another, these become one: what is in
    # strings stays in strings.
    found = found.replace(b'""', b"")
    quotes = found.count(b'"')
    if quotes > 4 * MAX_VALUES:  # a value has two strings at most, with its key
        raise MetadataError(f"the metadata holds more than {MAX_VALUES:,} values")
    return _outside_of_strings(found) if quotes else found


def _outside_of_strings(text: bytes) -> bytes:
    outside, inside = [], 0
    for start in range(0, len(text), _PIECE):
        pieces = text[start : start + _PIECE].split(b'"')
        outside.append(b"".join(pieces[inside::2]))
        inside = (inside + len(pieces) - 1) % 2
    return b"".join(outside)


def _is_deep(brackets: bytes) -> bool:
    """Whether brackets stand in one another more than MAX_DEPTH deep."""
    for _ in range(MAX_DEPTH):
        if b"[]" not in brackets:
            break
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    # What is left at most closes what was never opened, then opens what is never closed: it is not JSON.
    return b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH
