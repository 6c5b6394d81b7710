"""Conditional requests and ranges (RFC 9110, 13 and 14): which bytes a client wants, if it wants any."""

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

from starlette.datastructures import Headers

from .authentication import Refusal

# No number of bytes is longer.
RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Version:
    """What a client may have of something before: ``size`` bytes under a strong ``etag``, which were ``modified`` when
    the header says; None where that is not known."""

    size: int
    etag: str
    modified: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say so, but for the size."""
        known = {} if self.modified is None else {"Last-Modified": formatdate(self.modified, usegmt=True)}
        return {"ETag": self.etag, **known}


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from ``start`` up to ``stop``; ``is_part`` says that a client asked for them alone."""

    start: int
    stop: int
    is_part: bool = False


def is_known(headers: Headers, version: Version) -> bool:
    """Whether the client has this very version. Raises Refusal where it wants another one than this."""
    if (wanted := headers.get("if-match")) is not None:
        if not _lists(wanted, version.etag, weakly=False):
            raise Refusal(412, "the If-Match is not what is here", version.headers)
    elif (since := _time(headers.get("if-unmodified-since"))) is not None and (version.modified or 0) > since:
        raise Refusal(412, "it was modified since", version.headers)
    if (had := headers.get("if-none-match")) is not None:
        return _lists(had, version.etag, weakly=True)
    since = _time(headers.get("if-modified-since"))
    return since is not None and version.modified is not None and version.modified <= since


def requested(headers: Headers, version: Version) -> Span:
    """The bytes that the client wants. A range that is malformed, or several of them, mean all.

    Raises Refusal where nothing lies in the range.
    """
    whole, size = Span(0, version.size), version.size
    found = RANGE.fullmatch(headers.get("range", ""))
    if found is None or not _is_current(headers.get("if-range"), version):
        return whole
    first, last = found[1], found[2]
    if not (first or last) or (first and last and int(first) > int(last)):
        return whole
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        message = f"there are only {size:,} bytes"
        raise Refusal(416, message, {"Content-Range": f"bytes */{size}", **version.headers})
    return Span(start, stop, is_part=True)


def _is_current(given: str | None, version: Version) -> bool:
    """Whether an If-Range is of this version; a time is only where it is the very same."""
    if given is None or given.strip() == version.etag:
        return True
    return version.modified is not None and _time(given) == version.modified


def _lists(tags: str, etag: str, *, weakly: bool) -> bool:
    found = [tag.strip() for tag in tags.split(",")]
    return "*" in found or etag in [tag.removeprefix("W/") if weakly else tag for tag in found]


def _time(given: str | None) -> int | None:
    try:
        return None if given is None else int(parsedate_to_datetime(given).timestamp())
    except (ValueError, OverflowError):
        return None
