"""A CloudEvent: its attributes and its data, in one of three forms.

``0.1`` is what Pacifica's metadata service posts of a recorded transaction, to the letter. The others are the two forms
that an event of CloudEvents 1.0 can have over HTTP: all in the body, or the attributes in headers.

The document of a recorded job is read from the catalogue when the event is sent. There it lies durably, in tables but
for what they do not hold, so that it is not stored twice; what is sent again, be it years later, is the same; and a
document of any size is written record by record.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from ..disk import scratch
from ..errors import IngestError, JobNotRecorded
from ..jobs.outbox import Notice
from ..services.base import Catalog
from ..settings import Notifications

JSON = "application/json"
# What a header can hold as it is (CloudEvents, HTTP protocol binding 1.0.2, 3.1.3.2).
PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it is sent: the attributes of CloudEvents 1.0, headers of HTTP, and the body in an open file."""

    attributes: dict[str, str]
    headers: dict[str, str]
    body: IO[bytes]


def attributes_of(notice: Notice, notifications: Notifications) -> dict[str, str]:
    """The attributes of the event, by their names in CloudEvents 1.0. Sent again, it has the same."""
    is_ingest = notice.kind == "ingest"
    return {
        "specversion": "1.0",
        "type": notifications.event_type if is_ingest else f"org.pacifica.ingest.{notice.kind}",
        "source": notifications.source.format(_id=notice.job_id),
        "id": notifications.event_id.format(_id=notice.job_id)
        if is_ingest
        else f"ingest.{notice.kind}.{notice.job_id}.{notice.run}",
        "time": f"{_moment(notice).isoformat(timespec='microseconds').removesuffix('+00:00')}Z",
        "subject": f"jobs/{notice.job_id}",
        "datacontenttype": JSON,
    }


@contextmanager
def message(
    notice: Notice, notifications: Notifications, records: Iterable[dict[str, Any]] | None, folder: Path
) -> Iterator[Message]:
    """The event, ready to be sent; its body lies in a file without a name in ``folder``.

    Its data are the ``records`` of the job's document, else what the job was when it failed.
    """
    attributes = attributes_of(notice, notifications)
    data = iter([json.dumps(notice.data)]) if records is None else _listed(records)
    match notifications.format:
        case "0.1":
            headers, pieces = {"Content-Type": JSON}, _enveloped(_first_version(attributes, notice), data)
        case "structured":
            headers, pieces = {"Content-Type": "application/cloudevents+json"}, _enveloped(attributes, data)
        case "binary":
            named = {f"ce-{name}": quote(value, PLAIN) for name, value in attributes.items()}
            del named["ce-datacontenttype"]
            headers, pieces = {"Content-Type": JSON, **named}, data
    with scratch(folder, (piece.encode("ascii") for piece in pieces), IngestError) as body:
        yield Message(attributes, headers, body)


def document(catalog: Catalog, transaction_id: int) -> Iterator[dict[str, Any]]:
    """The numbered document of a recorded transaction, record by record. Raises JobNotRecorded."""
    if not catalog.contains(transaction_id):
        raise JobNotRecorded(f"the catalogue has no record of job {transaction_id}")
    if (given := catalog.given(transaction_id)) is not None:
        yield from given
        return
    yield {"destinationTable": "Transactions._id", "value": transaction_id}
    records = catalog.metadata(transaction_id)
    yield from (record for record in records if record["destinationTable"] != "FileKeyValue")
    for file in catalog.files(transaction_id):
        yield {**file.as_record(), "subdir": file.subdir}
    yield from (record for record in records if record["destinationTable"] == "FileKeyValue")


def _first_version(attributes: dict[str, str], notice: Notice) -> dict[str, Any]:
    # Its time is that of the place, without saying so.
    time = _moment(notice).astimezone().replace(tzinfo=None, microsecond=0)
    return {
        "cloudEventsVersion": "0.1",
        "eventType": attributes["type"],
        "source": attributes["source"],
        "eventID": attributes["id"],
        "eventTime": time.isoformat(),
        "extensions": {},
        "contentType": JSON,
    }


def _moment(notice: Notice) -> datetime:
    return datetime.fromisoformat(notice.created).replace(tzinfo=UTC)


def _enveloped(attributes: dict[str, Any], data: Iterable[str]) -> Iterator[str]:
    yield f'{json.dumps(attributes).removesuffix("}")}, "data": '
    yield from data
    yield "}"


def _listed(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The records as one list, written as ``json.dumps`` would."""
    yield "["
    for number, record in enumerate(records):
        yield f"{', ' if number else ''}{json.dumps(record)}"
    yield "]"
