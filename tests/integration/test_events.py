"""Events beside those of the released metadata service: of the same document they are the same."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ingest_cli import api
from ingest_cli.bundle.metadata import Document

from ..support.bundles import FILES, Record, document_for, file_record, transaction, write_bundle
from ..support.receiver import Got, Receiver
from .services import PacificaServices

pytestmark = pytest.mark.pacifica

# As rest/ingest.py of the service calls it.
EMIT = """
import json, sys
from pacifica.metadata.config import get_config
from pacifica.metadata.rest.events import emit_event
document = json.load(sys.stdin)
(number,) = [record["value"] for record in document if record["destinationTable"] == "Transactions._id"]
config = get_config()
emit_event(
    eventType=config.get("notifications", "ingest_eventtype"),
    source=config.get("notifications", "ingest_source").format(_id=number),
    eventID=config.get("notifications", "ingest_eventid").format(_id=number),
    data=document,
)
"""
DOCUMENTS: dict[str, list[Record]] = {
    "usual": document_for(FILES),
    "numbers as values": [
        *document_for(FILES),
        {"destinationTable": "TransactionKeyValue", "key": "User of Record", "value": 10},
    ],
    "pairs of a file": [
        *transaction(),
        file_record("data/a", b"a", _id=1),
        {"destinationTable": "FileKeyValue", "file_id": 1, "key": "Depth", "value": "5 m"},
    ],
    "names": [*transaction(), file_record("data/é/日本", b"a"), file_record('data/"\\', b"b")],
}
CONTENTS = {"names": {"data/é/日本": b"a", 'data/"\\': b"b"}, "pairs of a file": {"data/a": b"a"}}


@pytest.fixture
def python() -> Path:
    home = os.environ.get("INGEST_TEST_PACIFICA", "")
    if not home:
        pytest.skip("INGEST_TEST_PACIFICA names no folder with the Pacifica services")
    return Path(home, "venv/bin/python")


def comparable(got: Got) -> dict[str, Any]:
    """The event and its headers, but for the second and for what names the program; records in any order."""
    event = got.json
    assert len(event["eventTime"]) == len("2026-11-28T14:20:32")
    headers = {name: got.headers[name] for name in ("content-type",)}
    records = sorted(json.dumps(record, sort_keys=True) for record in event["data"])
    return {**event, "eventTime": "", "data": records, "keys": list(event), "headers": headers, "path": got.path}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_event_is_what_the_released_code_posts(
    name: str, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = DOCUMENTS[name]
    with Receiver() as receiver:
        monkeypatch.setenv("NOTIFICATIONS_URL", f"{receiver.url}/receive")
        job = api.ingest_bundle(write_bundle(tmp_path / "b.tar", CONTENTS.get(name, FILES), records))
        numbered = list(Document.of(records).numbered(job.job_id, first_file_id=1))
        subprocess.run([python, "-c", EMIT], input=json.dumps(numbered).encode(), check=True, cwd=tmp_path, timeout=60)
    ours, theirs = receiver.got
    assert comparable(ours) == comparable(theirs)


def test_of_one_job_the_metadata_service_and_we_say_the_same(
    pacifica: PacificaServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for both gets the same one twice, by its id and source."""
    with Receiver() as receiver:
        pacifica.stop("metadata")
        pacifica.start("metadata", notifications=receiver.url)
        monkeypatch.setenv("NOTIFICATIONS_URL", receiver.url)
        monkeypatch.setenv("NOTIFICATIONS_EVENTS", "ingest")
        try:
            api.ingest_bundle(write_bundle(tmp_path / "b.tar"))
        finally:
            pacifica.stop("metadata")
            pacifica.start("metadata")
    # The service also tells of each change of its tables.
    theirs, ours = (got for got in receiver.got if got.json["eventType"] == "org.pacifica.metadata.ingest")
    assert ours.headers["user-agent"].startswith("pacifica-ingest-cli/")
    assert not theirs.headers["user-agent"].startswith("pacifica-ingest-cli/")
    assert comparable(ours) == comparable(theirs)
