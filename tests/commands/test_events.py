"""Events: who is told what of a job, in which form, how often it is tried, and what a person can do about it."""

import json
import re
import shlex
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ingest_cli import api
from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import ExitCode, IngestError, ResourceUnavailable, SettingsError
from ingest_cli.events import receivers, sender
from ingest_cli.events.sender import Sender
from ingest_cli.jobs import outbox
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.outbox import Notice, NoticeStatus
from ingest_cli.jobs.store import open_store
from ingest_cli.settings import Endpoint, Timings, load_settings

from ..support.bundles import FILES, document_for, file_record, transaction, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.holders import Child, child
from ..support.pacifica_double import PacificaSite
from ..support.receiver import Handler, Receiver, hanging, trickling
from ..support.serving import Server
from ..support.site import Site, file_of
from ..support.waiting import until

TLS = Path(__file__).parents[1] / "data" / "tls"
ALL = "ingest, failed, deferred"
# The attributes of an event, as cloudevents/formats/cloudevents.json of the specification has them.
CLOUDEVENT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "datacontenttype": {"const": "application/json"},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "data": {},
    },
    "additionalProperties": False,
}


@pytest.fixture
def notify(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets keys of the section [notifications]."""

    def set_keys(**keys: object) -> None:
        for key, value in keys.items():
            monkeypatch.setenv(f"NOTIFICATIONS_{key.upper()}", str(value))

    return set_keys


Notify = Callable[..., None]


def bundle(folder: Path, name: str = "b") -> Path:
    return write_bundle(folder / f"{name}.tar", {**FILES, f"data/{name}": name.encode()})


def failing(folder: Path) -> Path:
    return write_bundle(folder / "bad.tar", metadata=b"{}")


def events() -> list[Notice]:
    return api.list_events(1000)


def statuses() -> list[tuple[int, str]]:
    """What has become of the events, by their jobs: of jobs that run at once, any may end first."""
    return sorted((notice.job_id, str(notice.status)) for notice in events())


def make_old(seconds: float) -> None:
    """Have all events wait for so long already, and be due."""
    with closing(sqlite3.connect(file_of(load_settings()))) as connection, connection:
        connection.execute("UPDATE outbox SET since = since - ?, retry_at = 0", [seconds])


# What is sent


def released(document: list[dict[str, Any]], job_id: int) -> dict[str, Any]:
    """What the metadata service 0.13 posts of the document that it was given: recorded from its rest/events.py."""
    return {
        "cloudEventsVersion": "0.1",
        "eventType": "org.pacifica.metadata.ingest",
        "source": f"http://metadata.pacifica.org/transactions?_id={job_id}",
        "eventID": f"metadata.ingest.{job_id}",
        "eventTime": "",
        "extensions": {},
        "contentType": "application/json",
        "data": document,
    }


def test_a_recorded_job_is_told_of_as_the_released_service_does(tmp_path: Path, notify: Notify) -> None:
    records = document_for(FILES)
    records.append({"destinationTable": "FileKeyValue", "file_id": 7, "key": "Depth", "value": "5 m"})
    next(record for record in records if record["destinationTable"] == "Files")["_id"] = 7
    with Receiver() as receiver:
        notify(url=f"{receiver.url}/receive?a=b")
        job = api.ingest_bundle(write_bundle(tmp_path / "b.tar", document=records))
    (got,) = receiver.got
    assert (got.path, got.headers["content-type"]) == ("/receive?a=b", "application/json")
    event = got.json
    numbered = list(Document.of(records).numbered(job.job_id, first_file_id=1))
    assert list(event) == list(released([], 1))
    assert abs(datetime.fromisoformat(event["eventTime"]).timestamp() - time.time()) < 60
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", event["eventTime"])
    assert {**event, "eventTime": "", "data": sorted(map(str, map(sorted_record, event["data"])))} == {
        **released([], job.job_id),
        "data": sorted(map(str, map(sorted_record, numbered))),
    }
    assert got.body == json.dumps(event).encode(), "as json.dumps writes it, which is how the released service does"


def sorted_record(record: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(record.items()))


@pytest.mark.parametrize(
    "odd",
    [
        {"destinationTable": "TransactionKeyValue", "key": "User of Record", "value": 10},
        {"destinationTable": "TransactionKeyValue", "key": "k", "value": "v", "comment": [1]},
        {"destinationTable": "Other", "x": {"y": None}},
        file_record("data/odd", b"", mtime=1_700_000_000, encoding="utf-8"),
    ],
    ids=str,
)
def test_what_the_tables_do_not_hold_is_sent_as_it_was_given(
    tmp_path: Path, notify: Notify, odd: dict[str, Any]
) -> None:
    records = [odd, *document_for(FILES)]
    with Receiver() as receiver:
        notify(url=receiver.url)
        job = api.ingest_bundle(write_bundle(tmp_path / "b.tar", {**FILES, "data/odd": b""}, records))
        api.resend_events(job_id=job.job_id)
    numbered = list(Document.of(records).numbered(job.job_id, first_file_id=1))
    assert [got.json["data"] for got in receiver.got] == [numbered] * 2


def test_the_event_of_a_move_has_the_sources(tmp_path: Path, notify: Notify) -> None:
    (tmp_path / "a").write_bytes(b"a")
    document = [*transaction(), file_record("data/a", b"a", source=str(tmp_path / "a"))]
    (tmp_path / "move.json").write_text(json.dumps(document))
    with Receiver() as receiver:
        notify(url=receiver.url)
        api.move_files(tmp_path / "move.json")
    assert receiver.got[0].json["data"] == list(Document.of(document).numbered(1, first_file_id=1))


def test_type_source_and_id_are_the_sites(tmp_path: Path, notify: Notify) -> None:
    with Receiver() as receiver:
        notify(url=receiver.url, ingest_event_type="t", ingest_source="s/{_id}", ingest_eventid="{_id}{_id}")
        api.ingest_bundle(bundle(tmp_path))
    event = receiver.got[0].json
    assert (event["eventType"], event["source"], event["eventID"]) == ("t", "s/1", "11")


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_cloudevents_1_0(tmp_path: Path, notify: Notify, form: str) -> None:
    with Receiver() as receiver:
        notify(url=receiver.url, format=form, events=ALL, ingest_source='http://x/{_id}?q=é "%')
        with pytest.raises(Exception, match="not a list"):
            api.ingest_bundle(failing(tmp_path))
        api.ingest_bundle(bundle(tmp_path))
        sent = [read_event(form, got.headers, got.body) for got in receiver.got]
    assert [(event["type"], event["subject"]) for event in sent] == [
        ("org.pacifica.ingest.failed", "jobs/1"),
        ("org.pacifica.metadata.ingest", "jobs/2"),
    ]
    for event in sent:
        jsonschema.validate(event, CLOUDEVENT)
    failed, recorded = (event["data"] for event in sent)
    assert (failed["state"], failed["task"], failed["job_id"]) == ("FAILED", "load metadata", 1)
    assert recorded[0] == {"destinationTable": "Transactions._id", "value": 2}
    assert len({(event["id"], event["source"]) for event in sent}) == 2


def read_event(form: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    from urllib.parse import unquote

    if form == "structured":
        assert headers["content-type"] == "application/cloudevents+json"
        return dict(json.loads(body))
    named = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return {**named, "datacontenttype": headers["content-type"], "data": json.loads(body)}


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_the_sdk_of_cloudevents_reads_it(tmp_path: Path, notify: Notify, form: str) -> None:
    http = pytest.importorskip("cloudevents.v1.http", reason="the SDK of CloudEvents is not installed")
    with Receiver() as receiver:
        notify(url=receiver.url, format=form)
        api.ingest_bundle(bundle(tmp_path))
    (got,) = receiver.got
    event = http.from_http(got.headers, got.body)
    assert (event["type"], event["id"], event["subject"]) == (
        "org.pacifica.metadata.ingest",
        "metadata.ingest.1",
        "jobs/1",
    )
    assert len(event.data) == 5 + len(FILES) + 1


def test_deferred_and_recorded_come_in_order(tmp_path: Path, notify: Notify, site: Site) -> None:
    api.ingest_bundle(bundle(tmp_path))
    late = bundle(tmp_path, "c")
    with Receiver() as receiver:
        notify(url=receiver.url, events=ALL)
        site.archive.rename(tmp_path / "aside")
        with pytest.raises(ResourceUnavailable):
            api.ingest_bundle(late)
        (tmp_path / "aside").rename(site.archive)
        api.ingest_bundle(late)
    assert [got.json["eventID"] for got in receiver.got] == ["ingest.deferred.2.1", "metadata.ingest.2"]
    deferred, recorded = (got.json for got in receiver.got)
    assert (deferred["eventType"], deferred["eventID"]) == ("org.pacifica.ingest.deferred", "ingest.deferred.2.1")
    assert "it will be tried again at" in deferred["data"]["exception"]
    assert recorded["eventID"] == "metadata.ingest.2"


def test_what_is_not_recorded_is_not_told_of(tmp_path: Path, notify: Notify, command: Command) -> None:
    """A duplicate, a failed, a discarded and a waiting job."""
    with Receiver() as receiver:
        notify(url=receiver.url)
        command("-q", bundle(tmp_path), failing(tmp_path))
        write_bundle(tmp_path / "copy.tar", {**FILES, "data/b": b"b"})
        command("-q", "copy.tar")
        command("--queue", bundle(tmp_path, "c"))
        command("discard", 4)
        command("--queue", bundle(tmp_path, "d"))
    assert receiver.ids() == ["metadata.ingest.1"]
    assert statuses() == [(1, "sent")]


# Whom


def test_without_a_receiver_nothing_is_sent_nor_kept(tmp_path: Path) -> None:
    api.ingest_bundle(bundle(tmp_path))
    assert events() == []
    with pytest.raises(SettingsError, match="nobody is to be sent events"):
        api.send_events()


def test_disabled(tmp_path: Path, notify: Notify) -> None:
    with Receiver() as receiver:
        notify(url=receiver.url, disabled="True")
        api.ingest_bundle(bundle(tmp_path))
    assert (receiver.got, events()) == ([], [])


def test_a_metadata_service_sends_its_own_events(tmp_path: Path, notify: Notify, pacific: PacificaSite) -> None:
    """It reads the same file; what it does not send is sent where the site asks for it."""
    with Receiver() as receiver:
        notify(url=receiver.url)
        assert load_settings().notifications.receivers == ()
        api.ingest_bundle(bundle(tmp_path))
        assert receiver.got == []
        notify(events="ingest")
        job = api.ingest_bundle(bundle(tmp_path, "c"))
    (event,) = receiver.got
    assert event.json["eventID"] == f"metadata.ingest.{job.job_id}"
    assert {str(sorted_record(record)) for record in event.json["data"]} == {
        str(sorted_record(record)) for record in pacific.transactions[job.job_id]
    }


PACIFICA_FILE = """
[notifications]
disabled = False
url = http://user:p%%77@127.0.0.1:8070/receive
ingest_eventtype = org.example.ingest
orm_eventtype = org.pacifica.metadata.orm
doientry_source = http://metadata.pacifica.org/doientry
doiupdate_eventid = metadata.doi.{doi}.{uuid}
"""


def test_the_metadata_services_own_section_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.ini").write_text(PACIFICA_FILE)
    settings = load_settings(config=tmp_path / "config.ini")
    assert settings.notifications.event_type == "org.example.ingest"
    assert settings.notifications.url == Endpoint(url="http://127.0.0.1:8070/receive", basic=("user", "pw"))
    assert settings.notifications.kinds == {"ingest"}
    shown = {value.shown for value in settings.values}
    assert "http://(hidden)@127.0.0.1:8070/receive" in shown


@pytest.mark.parametrize(
    ("keys", "saying"),
    [
        ({"url": "file:///x"}, "is not an http(s) URL"),
        ({"url": "http://x", "events": "ingest,done"}, "'done' is not one of ingest, failed, deferred"),
        ({"url": "http://x", "format": "1.0"}, "'1.0' is not one of 0.1, structured, binary"),
        ({"url": "http://x", "ingest_eventid": "{job}"}, "only {_id} may stand in braces"),
        ({"url": "http://x", "ingest_source": "{"}, "only {_id} may stand in braces"),
        ({"command": "say 'x"}, "No closing quotation"),
        ({"command": "''"}, "names no program"),
        ({"disabled": "maybe"}, "neither yes nor no"),
    ],
)
def test_what_cannot_be_used_is_named(notify: Notify, keys: dict[str, str], saying: str) -> None:
    notify(**keys)
    with pytest.raises(SettingsError, match=re.escape(saying)):
        load_settings()


def test_credentials_and_certificates(tmp_path: Path, notify: Notify) -> None:
    with Receiver().with_tls(str(TLS / "server.pem"), str(TLS / "server.key")) as receiver:
        notify(url=receiver.url, token="secret")
        api.ingest_bundle(bundle(tmp_path))
        assert statuses() == [(1, "waiting")], "a certificate that is not trusted"
        assert "certificate" in events()[0].reason
        notify(ca_file=TLS / "ca.pem")
        make_old(0)
        assert api.send_events().sent == 1
    assert [got.headers["authorization"] for got in receiver.got] == ["Bearer secret"]


# A command


def script(folder: Path, text: str) -> str:
    """A command that is a program of Python, with a quoted argument."""
    path = folder / "receive it.py"
    path.write_text(f"import json, os, sys, time\nfrom pathlib import Path\n{text}\n")
    return shlex.join([sys.executable, "-S", str(path), "a b"])


def test_a_command_is_given_the_event(tmp_path: Path, notify: Notify, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "{'words': sys.argv[1:], 'event': json.load(sys.stdin), 'variables': dict(os.environ)}"
    notify(command=script(tmp_path, f"Path('{tmp_path}/got').write_text(json.dumps({said})); print('$HOME')"))
    monkeypatch.setenv("INGEST_SERVER_TOKEN", "secret")
    api.ingest_bundle(bundle(tmp_path))
    got = json.loads((tmp_path / "got").read_text())
    assert got["words"] == ["a b"]
    assert got["event"]["eventID"] == "metadata.ingest.1"
    assert (got["variables"]["CE_ID"], got["variables"]["CE_SUBJECT"]) == ("metadata.ingest.1", "jobs/1")
    assert "INGEST_SERVER_TOKEN" not in got["variables"]
    assert statuses() == [(1, "sent")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "print('no room', 'at all', file=sys.stderr); print('x', file=sys.stderr); sys.exit(3)",
            "status 3: no room at",
        ),
        ("os.kill(os.getpid(), 9)", "signal 9"),
        ("sys.stderr.write('x' * 10_000_000); sys.exit(1)", "status 1: xxx"),
    ],
)
def test_a_command_that_fails_is_run_again(tmp_path: Path, notify: Notify, text: str, reason: str) -> None:
    notify(command=script(tmp_path, text))
    job = api.ingest_bundle(bundle(tmp_path))
    (event,) = events()
    assert (job.state, event.status, event.attempts) == (JobState.COMPLETE, NoticeStatus.WAITING, 1)
    assert reason in event.reason
    assert len(event.reason) < 1000
    notify(command=script(tmp_path, ""))
    make_old(0)
    assert api.send_events().sent == 1


def test_a_command_that_is_not_there(tmp_path: Path, notify: Notify, command: Command) -> None:
    notify(command="/nowhere/receive")
    assert command("-q", bundle(tmp_path)).returncode == 0
    assert "cannot be run: No such file" in events()[0].reason
    done = command("doctor")
    assert done.returncode == ExitCode.FAILED or done.returncode == ExitCode.UNREACHABLE
    assert re.search(r"^FAIL events +/nowhere/receive is not there.*; 1 event waiting", done.stdout, re.M)


def test_a_command_that_does_not_end_is_killed_with_what_it_began(
    tmp_path: Path, notify: Notify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "ANSWER_SECONDS", 0.2)
    text = "import subprocess; child = subprocess.Popen(['sleep', '600'])"
    notify(command=script(tmp_path, f"{text}; Path('{tmp_path}/pid').write_text(str(child.pid)); time.sleep(600)"))
    api.ingest_bundle(bundle(tmp_path))
    (event,) = events()
    assert event.status is NoticeStatus.WAITING
    pid = (tmp_path / "pid").read_text()
    until(lambda: not Path("/proc", pid).exists() or "Z" in Path("/proc", pid, "stat").read_text())


def test_an_url_and_a_command(tmp_path: Path, notify: Notify) -> None:
    """Each is told for itself: one that is away does not keep the other one waiting."""
    with Receiver(503) as receiver:
        notify(url=receiver.url, command=script(tmp_path, ""))
        api.ingest_bundle(bundle(tmp_path))
    assert [(event.receiver, str(event.status)) for event in events()] == [("url", "waiting"), ("command", "sent")]


# Whom it does not reach


@pytest.mark.sweep
def test_a_receiver_that_is_down_holds_up_nothing(tmp_path: Path, notify: Notify, command: Command) -> None:
    with Receiver() as receiver:
        url = receiver.url
    notify(url=url)
    done = command(bundle(tmp_path), bundle(tmp_path, "c"))
    assert done.returncode == 0
    assert done.stderr.count("warning: events wait") == 1
    assert "Connection refused" in done.stderr
    assert statuses() == [(1, "waiting"), (2, "waiting")]
    assert "events wait" not in command("-q", bundle(tmp_path, "d")).stderr, "it is told once"
    assert events()[0].attempts + events()[1].attempts <= 3, "one attempt in a round finds out"


@pytest.mark.parametrize(
    "fault", [hanging, pytest.param(trickling, marks=pytest.mark.sweep)], ids=["hangs", "answers for ever"]
)
def test_a_receiver_that_does_not_answer_keeps_a_command_for_a_moment(
    tmp_path: Path, notify: Notify, command: Command, fault: Any
) -> None:
    with Receiver(answer=fault) as receiver:
        notify(url=receiver.url)
        begun = time.monotonic()
        done = command("-q", bundle(tmp_path))
        assert done.returncode == 0
        assert time.monotonic() - begun < 20, "it does not wait for the receiver's timeout"
        assert len(receiver.got) == 1
    with Receiver() as receiver:
        notify(url=receiver.url)
        assert api.send_events().sent == 1, "who died while it sent has no lease any more"
    assert statuses() == [(1, "sent")]


@pytest.mark.parametrize("statuses_of", [[500, 500, 200], [0, 200], [429, 301, 404, 401, 204]], ids=str)
def test_what_passes_is_tried_again(tmp_path: Path, notify: Notify, statuses_of: list[int]) -> None:
    with Receiver(*statuses_of) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        for _ in statuses_of[1:]:
            make_old(3600)
            api.send_events()
    assert len(receiver.got) == len(statuses_of)
    assert receiver.ids() == ["metadata.ingest.1"]
    assert len({(got.body, got.headers["content-type"]) for got in receiver.got}) == 1, "the same event each time"
    assert statuses() == [(1, "sent")]


def test_it_is_not_followed_elsewhere(tmp_path: Path, notify: Notify) -> None:
    with Receiver() as elsewhere, Receiver(307, Location=elsewhere.url) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
    assert (statuses(), elsewhere.got) == ([(1, "waiting")], [])
    assert "answers 307: redirects are not followed" in events()[0].reason


def test_a_slow_receiver_is_waited_for(tmp_path: Path, notify: Notify) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.3)
        handler.answered(202)

    with Receiver(answer=slow) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
    assert statuses() == [(1, "sent")]


def test_a_signal_ends_the_waiting_and_nothing_else(
    tmp_path: Path, notify: Notify, starting: Callable[..., Running]
) -> None:
    with Receiver(answer=hanging) as receiver:
        notify(url=receiver.url)
        running = starting("-q", bundle(tmp_path))
        until(lambda: receiver.got)
        running.terminate()
        assert running.wait(60) == ExitCode.SUCCESS, "the job is complete"
    assert statuses() == [(1, "waiting")]


def test_while_the_catalogue_is_away_its_events_wait(tmp_path: Path, notify: Notify, site: Site) -> None:
    aside = site.catalog.with_name("aside")
    with Receiver(503, 200) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        site.catalog.rename(aside)
        make_old(0)
        assert api.send_events().waiting == 1
        assert "is its disk mounted?" in events()[0].reason
        aside.rename(site.catalog)
        make_old(0)
        assert api.send_events().sent == 1
    assert len(receiver.got) == 2


def test_what_the_catalogue_has_lost_is_given_up(tmp_path: Path, notify: Notify, site: Site) -> None:
    with Receiver(503, 200) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        with closing(sqlite3.connect(site.catalog)) as connection, connection:
            connection.execute("DELETE FROM Transactions")
        for _ in range(2):
            make_old(90_000)
            api.send_events()
    assert (statuses(), len(receiver.got)) == ([(1, "given up")], 1)
    assert events()[0].reason == "the catalogue has no record of job 1"


def test_several_senders_send_each_event_once(tmp_path: Path, notify: Notify) -> None:
    job = api.ingest_bundle(bundle(tmp_path))
    with Receiver() as receiver:
        notify(url=receiver.url)
        with open_store(load_settings()) as store:
            for number in range(40):  # each as that of another job
                store.outbox.announce(replace(job, job_id=job.job_id + number), ["url"])
        with closing(sqlite3.connect(load_settings().catalog)) as connection, connection:  # type: ignore[arg-type]
            connection.executemany(
                "INSERT INTO Transactions VALUES (?, 1, 'p', 1, '', '')", [(job.job_id + n,) for n in range(1, 40)]
            )
        with ThreadPoolExecutor(4) as pool:
            tallies = list(pool.map(lambda _: api.send_events(), range(4)))
    assert sum(tally.sent for tally in tallies) == 40
    assert len(set(receiver.ids())) == len(receiver.got) == 40


def test_the_backoff_grows_and_heeds_retry_after(tmp_path: Path, notify: Notify) -> None:
    def waits() -> float:
        return events()[0].retry_at - time.time()

    with Receiver(503) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        assert 5 < waits() <= 10
        make_old(0)
        api.send_events()
        assert 15 < waits() <= 20
        receiver.headers["Retry_After"] = "600"
        make_old(0)
        api.send_events()
        assert 590 < waits() <= 600
        assert api.send_events().waiting == 0, "it is not due"
    assert len(receiver.got) == 3


def test_once_a_receiver_is_back_it_gets_all_that_it_missed(tmp_path: Path, notify: Notify) -> None:
    with Receiver(503, 503, 200) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        api.ingest_bundle(bundle(tmp_path, "c"))
        assert [status for _, status in statuses()] == ["waiting"] * 2
        assert all(event.retry_at > time.time() for event in events())
        api.ingest_bundle(bundle(tmp_path, "d"))
        until(lambda: api.send_events().sent == 0)
    assert [status for _, status in statuses()] == ["sent"] * 3


def test_a_receiver_that_is_away_is_not_besieged(tmp_path: Path, notify: Notify) -> None:
    for name in "bcd":
        api.ingest_bundle(bundle(tmp_path, name))
    with Receiver(503) as receiver:
        notify(url=f"{receiver.url}/?key=secret")
        settings = replace(load_settings(), timings=Timings(first_backoff=0.2))
        told: list[str] = []
        with open_store(settings) as store:
            for job_id in (1, 2, 3):
                store.outbox.announce(store.get(job_id), ["url"])
            sender = Sender(settings, told.append)
            for _ in range(20):
                sender.send(store)
            assert len(receiver.got) == 1
            receiver.statuses = [200]
            until(lambda: sender.send(store).sent)
            assert len(receiver.received) == 3
    assert [line.partition(": ")[0] for line in told] == ["events wait", f"{receiver.url}/ receives events again"]
    assert "secret" not in "".join(told)


@pytest.mark.parametrize("way", [Child.go_on, Child.stop])
def test_the_events_of_a_sender_that_is_seen_to_live_are_its_own_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Child], None]
) -> None:
    now = time.monotonic
    api.ingest_bundle(bundle(tmp_path))
    with open_store(load_settings()) as store, child() as other:
        store.outbox.announce(store.get(1), ["url"])
        way(other)
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "this_process", lambda: other.process)
            assert store.outbox.lease_next(["url"]) is not None
        for times in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(time, "monotonic", lambda times=times: now() + 2 * times * outbox.LEASE_SECONDS)
                assert store.outbox.lease_next(["url"]) is None
        other.kill()
        until(lambda: store.outbox.lease_next(["url"]) is not None)


def test_a_sender_says_that_it_has_an_event_for_as_long_as_its_receiver_takes(
    tmp_path: Path, notify: Notify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "RENEWAL_SECONDS", 0.02)

    def renewals(seen: set[str]) -> int:
        seen.update(notice.updated for notice in api.list_events(1))
        return len(seen)

    def take(handler: Handler) -> None:
        seen = set[str]()
        until(lambda: renewals(seen) > 3)
        handler.server.received.append(handler.server.got[-1])
        handler.answered(200)

    with Receiver(answer=take) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        until(lambda: statuses() == [(1, "sent")])
    assert receiver.ids() == ["metadata.ingest.1"]


@pytest.mark.parametrize(
    ("status", "seconds", "given_up"),
    [(410, 0, True), (400, 3600, False), (400, 90_000, True), (503, 90_000, False), (503, 700_000, True)],
)
def test_when_an_event_is_given_up(tmp_path: Path, notify: Notify, status: int, seconds: float, given_up: bool) -> None:
    with Receiver(status) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        for _ in range(2):
            make_old(seconds)
            api.send_events()
        assert statuses() == [(1, "given up" if given_up else "waiting")]
        receiver.statuses = [200]
        tally = api.resend_events(given_up=True)
    assert (tally.sent, receiver.ids()) == ((1, ["metadata.ingest.1"]) if given_up else (0, []))


def test_one_that_is_refused_stands_in_the_way_of_no_other_job(tmp_path: Path, notify: Notify) -> None:
    with Receiver(400, 200) as receiver:
        notify(url=receiver.url)
        api.ingest_bundle(bundle(tmp_path))
        api.ingest_bundle(bundle(tmp_path, "c"))
    assert statuses() == [(1, "waiting"), (2, "sent")]


def test_one_that_breaks_the_receiver_stands_in_the_way_of_no_other_job(tmp_path: Path, notify: Notify) -> None:
    """It looks like an outage, until the receiver takes another one."""

    def broken_by_the_first(handler: Handler) -> None:
        is_first = handler.server.got[-1].json["eventID"] == "metadata.ingest.1"
        handler.answered(500 if is_first else 200)

    with Receiver(answer=broken_by_the_first) as receiver:
        notify(url=receiver.url)
        for name in "bcdefg":
            api.ingest_bundle(bundle(tmp_path, name))
        api.send_events()
        assert statuses() == [(1, "waiting"), *((job_id, "sent") for job_id in range(2, 7))]
        assert len(receiver.got) == 7, "the first one is tried twice"


# What a person does


def test_the_list(tmp_path: Path, notify: Notify, command: Command) -> None:
    with Receiver(200, 410, 503) as receiver:
        notify(url=receiver.url)
        for name in "bcd":
            api.ingest_bundle(bundle(tmp_path, name))
    shown = command("events")
    assert shown.stderr == "ingest: 1 waiting, 1 sent, 1 given up\n"
    lines = shown.stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [[str(n), str(n), "ingest", "url"] for n in (1, 2, 3)]
    assert "answers 503" in lines[3]
    assert [row["status"] for row in json.loads(command("events", "--json").stdout)] == ["sent", "given up", "waiting"]
    assert [row["number"] for row in json.loads(command("events", "--json", "-n", 1).stdout)] == [3]
    assert [row["job_id"] for row in json.loads(command("events", "--json", "--job", 2).stdout)] == [2]
    assert [row["job_id"] for row in json.loads(command("events", "--json", "--failed").stdout)] == [2]
    counted = json.loads(command("stats", "--json").stdout)["events"]
    assert counted == {"waiting": 1, "sent": 1, "given_up": 1, "oldest_waiting": events()[2].created}
    assert re.search(r"^waiting +1 +since", command("stats").stdout, re.M)


def test_resending(tmp_path: Path, notify: Notify, command: Command) -> None:
    api.ingest_bundle(bundle(tmp_path))  # before anybody was to be told
    with Receiver() as receiver:
        notify(url=receiver.url)
        for path in (bundle(tmp_path, "c"), bundle(tmp_path, "d"), failing(tmp_path)):
            command("-q", path)
        assert command("events", "--resend", 1, 2).stderr == "ingest: 2 sent, 0 to be sent again later\n"
        assert (
            command("events", "--resend", "--job", 1, "--json").stdout == '{"sent": 1, "waiting": 0, "given_up": 0}\n'
        )
        assert api.resend_events(job_id=3).sent == 1
        assert receiver.ids() == [f"metadata.ingest.{job_id}" for job_id in (2, 3, 2, 3, 1, 3)]
        receiver.statuses = [503]
        done = command("events", "--resend", 1)
        assert (done.returncode, "answers 503" in done.stderr) == (ExitCode.UNREACHABLE, True)
        assert command("events", "--send").returncode == 0, "nothing is due"
    assert command("events", "--resend", 17).stderr == "ingest: there is no event 17\n"
    with pytest.raises(IngestError, match="job 4 has no events: it is failed"):
        api.resend_events(job_id=4)


@pytest.mark.parametrize("words", [["--resend"], [1], ["--send", "--failed"], ["--send", 1]], ids=str)
def test_what_is_sent_is_said_in_one_way(command: Command, words: list[object]) -> None:
    assert command("events", *words).returncode == ExitCode.USAGE


def test_old_events_can_be_pruned(tmp_path: Path, notify: Notify, command: Command) -> None:
    with Receiver(200, 410, 503) as receiver:
        notify(url=receiver.url)
        for name in "bcd":
            api.ingest_bundle(bundle(tmp_path, name))
    with closing(sqlite3.connect(file_of(load_settings()))) as connection, connection:
        connection.execute("UPDATE outbox SET updated = datetime('now', '-100 days')")
    assert "2 events" in command("prune").stderr
    assert json.loads(command("prune", "--yes", "--json").stdout)["removed_events"] == 2
    assert statuses() == [(3, "waiting")]


def test_doctor_looks_for_the_receiver(tmp_path: Path, notify: Notify, command: Command) -> None:
    with Receiver() as receiver:
        notify(url=receiver.url)
        assert re.search(r"^OK   events +http://\S+ answers in \d+ ms$", command("doctor").stdout, re.M)
    command("-q", bundle(tmp_path))
    done = command("doctor")
    assert done.returncode == ExitCode.UNREACHABLE
    assert re.search(r"^FAIL events .*does not answer.*; 1 event waiting, the oldest since 20", done.stdout, re.M)
    assert "see [notifications] url" in done.stdout


def test_doctor_tells_of_each_receiver_what_it_did_not_get(tmp_path: Path, notify: Notify, command: Command) -> None:
    with Receiver(410) as receiver:
        notify(url=receiver.url, command=script(tmp_path, ""))
        command("-q", bundle(tmp_path))
        told = [line for line in command("doctor").stdout.splitlines() if "events" in line]
    assert ["1 event given up" in line for line in told[:2]] == [True, False]


# What runs for long


def test_a_worker_sends_in_the_background(tmp_path: Path, notify: Notify, starting: Callable[..., Running]) -> None:
    with Receiver(503, 200) as receiver:
        notify(url=receiver.url)
        queue(tmp_path)
        with (tmp_path / "log").open("wb") as log:
            starting("worker", "-q", output=log, timings={"first_backoff": 0.3})
        until(lambda: statuses() == [(1, "sent"), (2, "sent")])
        until(lambda: "receives events again" in (tmp_path / "log").read_text())
    assert len(receiver.received) == 2
    assert len(receiver.got) == 3
    assert re.search(r"Z ingest: events wait: .* answers 503", (tmp_path / "log").read_text())


def test_a_worker_that_is_told_to_end_waits_for_no_receiver(
    tmp_path: Path, notify: Notify, starting: Callable[..., Running]
) -> None:
    with Receiver(answer=hanging) as receiver:
        notify(url=receiver.url)
        queue(tmp_path)
        running = starting("worker", "-q")
        until(lambda: receiver.got and all(job.is_done for job in (api.find_job(1), api.find_job(2))))
        running.terminate()
        assert running.wait(60) == ExitCode.SUCCESS
    assert statuses() == [(1, "waiting"), (2, "waiting")]


def test_while_a_sender_is_frozen_nobody_else_sends_what_it_sends(
    tmp_path: Path, notify: Notify, starting: Callable[..., Running]
) -> None:
    thawed = threading.Event()

    def patient(handler: Handler) -> None:
        thawed.wait(60)
        handler.server.received.append(handler.server.got[-1])
        handler.answered(200)

    with Receiver(answer=patient) as receiver:
        notify(url=receiver.url)
        assert len(list(api.queue_files(JobKind.BUNDLE, [bundle(tmp_path)]))) == 1
        running = starting("worker", "-q")
        until(lambda: receiver.got)
        running.send_signal(signal.SIGSTOP)
        assert api.send_events().sent == 0
        running.send_signal(signal.SIGCONT)
        thawed.set()
        until(lambda: statuses() == [(1, "sent")])
    assert len(receiver.got) == 1


@pytest.mark.sweep
def test_of_several_workers_one_process_sends(tmp_path: Path, notify: Notify, starting: Callable[..., Running]) -> None:
    with Receiver() as receiver:
        notify(url=receiver.url)
        queue(tmp_path)
        starting("worker", "-q", "--workers", 2)
        until(lambda: statuses() == [(1, "sent"), (2, "sent")])
    assert len(receiver.got) == 2


def queue(folder: Path) -> None:
    assert len(list(api.queue_files(JobKind.BUNDLE, [bundle(folder), bundle(folder, "c")]))) == 2


def test_the_server_sends_and_counts(environment: Path, tmp_path: Path, notify: Notify) -> None:
    import requests

    with Receiver() as receiver, Server(environment) as server:
        assert 'ingest_events{status="sent"} 0' in requests.get(f"{server.url}/metrics", timeout=60).text
    with Receiver() as receiver:
        notify(url=receiver.url)
        with Server(environment) as server:
            job = server.upload(bundle(tmp_path))
            until(lambda: receiver.ids() == [f"metadata.ingest.{job['job_id']}"])
            until(lambda: 'status="sent"} 1' in requests.get(f"{server.url}/metrics", timeout=60).text)


def test_worker_until_empty_sends_what_it_can(tmp_path: Path, notify: Notify, command: Command) -> None:
    with Receiver() as receiver:
        notify(url=receiver.url)
        queue(tmp_path)
        assert command("worker", "--until-empty", "-q").returncode == 0
    assert sorted(receiver.ids()) == ["metadata.ingest.1", "metadata.ingest.2"]


@pytest.mark.sweep
def test_a_large_document_is_sent_whole(tmp_path: Path, notify: Notify) -> None:
    files = {f"data/{number}": b"" for number in range(3000)}
    with Receiver() as receiver:
        notify(url=receiver.url, format="structured")
        api.ingest_bundle(write_bundle(tmp_path / "b.tar", files))
    names = [record["name"] for record in receiver.got[0].json["data"] if record["destinationTable"] == "Files"]
    assert names == [name.removeprefix("data/") for name in files]
