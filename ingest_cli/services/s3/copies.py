"""Copies that storage makes itself: of what it copies with one request at once, of longer objects part by part."""

from contextlib import suppress

from ...errors import IngestError, ServiceUnavailable
from ...in_threads import done_in_threads
from ...meter import NOBODY, Meter
from .client import Client
from .objects import At, Stored, copied, find, noted
from .parts import MOST_PARTS, PartsUpload

# Amazon's copies no more with one request.
MOST_COPIED = 5 << 30
# How long the parts of longer objects are, unless there were too many of them.
COPIED_AT_ONCE = 512 << 20
PARTS_AT_ONCE = 4


def copy(client: Client, source: At, target: At, found: Stored, action: str, most: int = MOST_COPIED) -> None:
    """Have storage copy what was ``found`` at ``source``, with other notes: up to ``most`` bytes with one request."""
    if found.size > most:
        _copy_in_parts(client, source, target, found, action, min(most, COPIED_AT_ONCE))
    else:
        headers = {
            **copied(source, found.etag),
            "x-amz-metadata-directive": "REPLACE",
            **noted(found.notes),
        }
        client.ask("PUT", {}, action, target, headers=headers, size=found.size)


def _copy_in_parts(client: Client, source: At, target: At, found: Stored, action: str, at_once: int) -> None:
    upload = PartsUpload(client, target, found.notes, action)
    part = max(at_once, -(-found.size // MOST_PARTS))

    def copy_part(start: int, _: Meter) -> None:
        upload.copy_part(start // part + 1, source, start, min(start + part, found.size) - 1, found.etag)

    try:
        starts = range(0, found.size, part)
        for _ in done_in_threads(copy_part, starts, lambda _: part, NOBODY, PARTS_AT_ONCE, most=1):
            pass
        if not upload.complete():
            # It may have been completed before, and the answer was lost.
            there = find(client, target, action)
            if there is None or (there.size, there.etag) != (found.size, upload.tag):
                raise ServiceUnavailable(f"cannot {action} in {client.place}: the upload of it was ended")
    except BaseException:
        with suppress(IngestError):
            upload.abort()
        raise
