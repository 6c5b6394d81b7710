"""The section of events: who is sent them, of what, and in which form."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import SettingsError
from .endpoint import Endpoint, endpoint_of, split_http_url
from .forms import printable_of, switch_of
from .options import (
    ACCESS,
    EVENT_ID,
    EVENT_SOURCE,
    EVENT_TYPE,
    NOTIFICATIONS_COMMAND,
    NOTIFICATIONS_DISABLED,
    NOTIFICATIONS_EVENTS,
    NOTIFICATIONS_FORMAT,
    NOTIFICATIONS_URL,
    Option,
)
from .values import Value, where

EventKind = Literal["ingest", "failed", "deferred"]
EventFormat = Literal["0.1", "structured", "binary"]
ReceiverKind = Literal["url", "command"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
EVENT_FORMATS: tuple[EventFormat, ...] = get_args(EventFormat)


@dataclass(frozen=True, kw_only=True, slots=True)
class Notifications:
    """Who is sent events: an ``url`` over HTTP, a ``command`` on its standard input, or both; and of which ``kinds``.

    In ``source`` and ``event_id`` stands ``{_id}`` for the job.
    """

    url: Endpoint | None = None
    command: tuple[str, ...] = ()
    kinds: frozenset[EventKind] = frozenset()
    format: EventFormat = "0.1"
    event_type: str = ""
    source: str = ""
    event_id: str = ""

    @property
    def receivers(self) -> tuple[ReceiverKind, ...]:
        """Those that there are."""
        url: tuple[ReceiverKind, ...] = ("url",) if self.url is not None else ()
        return (*url, "command") if self.command else url


def notifications_of(values: Mapping[Option, Value], *, is_catalog_embedded: bool) -> Notifications:
    """Who is sent events; nobody where ``disabled``, or where the metadata service sends its own."""
    if switch_of(values[NOTIFICATIONS_DISABLED]):
        return Notifications()
    # A metadata service sends its events itself, to the URL that stands in the file it shares.
    is_ours = is_catalog_embedded or values[NOTIFICATIONS_EVENTS].origin != "default"
    url = _receiver(values) if is_ours and values[NOTIFICATIONS_URL].text else None
    command = _words(values[NOTIFICATIONS_COMMAND])
    if url is None and not command:
        return Notifications()
    return Notifications(
        url=url,
        command=command,
        kinds=_event_kinds(values[NOTIFICATIONS_EVENTS]),
        format=_event_format(values[NOTIFICATIONS_FORMAT]),
        event_type=printable_of(values[EVENT_TYPE]),
        source=_of_a_job(values[EVENT_SOURCE]),
        event_id=_of_a_job(values[EVENT_ID]),
    )


def _receiver(values: Mapping[Option, Value]) -> Endpoint:
    value = values[NOTIFICATIONS_URL]
    parts = split_http_url(value.text)
    if parts is None:
        raise SettingsError(f"{where(value)}: {value.shown!r} is not an http(s) URL")
    return endpoint_of(parts, values, value, ACCESS[NOTIFICATIONS_URL])


def _words(value: Value) -> tuple[str, ...]:
    """The words of a command, as a shell splits them."""
    try:
        words = tuple(shlex.split(printable_of(value)))
    except ValueError as error:
        raise SettingsError(f"{where(value)}: {value.text!r}: {error}") from error
    if words and not words[0]:
        raise SettingsError(f"{where(value)}: {value.text!r} names no program")
    return words


def _event_kinds(value: Value) -> frozenset[EventKind]:
    names = value.text.replace(",", " ").split()
    for name in names:
        if name not in EVENT_KINDS:
            raise SettingsError(f"{where(value)}: {name!r} is not one of {', '.join(EVENT_KINDS)}")
    return frozenset(kind for kind in EVENT_KINDS if kind in names)


def _event_format(value: Value) -> EventFormat:
    for known in EVENT_FORMATS:
        if value.text == known:
            return known
    raise SettingsError(f"{where(value)}: {value.text!r} is not one of {', '.join(EVENT_FORMATS)}")


def _of_a_job(value: Value) -> str:
    """A text in which ``{_id}`` stands for a job's id."""
    try:
        printable_of(value).format(_id=1)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise SettingsError(f"{where(value)}: in {value.text!r} only {{_id}} may stand in braces") from error
    return value.text
