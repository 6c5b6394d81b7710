"""The archive in storage that speaks S3: the whole road by the command line, with requests that fail on their way."""

import json
import random
import urllib.request
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from ingest_cli.settings import ObjectStore

from ..support.bundles import document_for, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.object_stores import CUT, FAILED, HALVED, LOST, REFUSED, SLOWED, ObjectServer, at_random
from ..support.serving import Server
from ..support.site import Site
from ..support.site_in_storage import Setting, assert_stored, disturbed, killing

pytestmark = pytest.mark.cluster

# A file in three parts, and those that one request takes.
LARGE = random.Random(1).randbytes((17 << 20) + 5)
FILES = {"data/a.txt": b"alpha\n", "data/large": LARGE, "data/empty": b"", "data/b.bin": bytes(range(256)) * 99}
SMALL = {f"data/{number}": f"file {number}\n".encode() * number for number in range(6)}


def test_a_bundle_goes_in_and_comes_back(
    storage: ObjectServer, in_storage: Setting, command: Command, site: Site, tmp_path: Path
) -> None:
    place = in_storage(storage)
    assert command("doctor").returncode == 0
    assert storage.keys(place.bucket) == set(), "the doctor leaves nothing"
    done = command(write_bundle(tmp_path / "b.tar", FILES))
    assert done.returncode == 0, done.stderr
    assert_stored(command, site, storage, place, FILES)
    assert command("restore", "1", "--to", tmp_path / "back").returncode == 0
    assert {path: (tmp_path / "back" / path).read_bytes() for path in FILES} == FILES
    assert command("cat", "1", "data/a.txt").stdout == "alpha\n"
    assert command("verify", "--fast", "1").returncode == 0


def test_the_doctor_says_what_the_storage_lacks(storage: ObjectServer, in_storage: Setting, command: Command) -> None:
    place = in_storage(storage)
    said = command("doctor").stdout
    assert f"{place} at {storage.url}" in said
    assert ("no conditional writes" in said) == (not storage.strict)


def test_storage_that_says_that_it_has_no_conditional_writes_is_used_without(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = in_storage(strict_storage)
    with disturbed(strict_storage, monkeypatch) as between:
        between.takes_conditions = False
        assert "no conditional writes" in command("doctor").stdout
        done = command(write_bundle(tmp_path / "b.tar", FILES))
        assert done.returncode == 0, done.stderr
    assert_stored(command, site, strict_storage, place, FILES)


def test_what_is_stored_is_downloaded(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    environment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_storage(strict_storage)
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")
    monkeypatch.setenv("INGEST_READERS", "*")
    assert command(write_bundle(tmp_path / "b.tar", FILES)).returncode == 0
    with Server(environment) as server:
        for path, data in FILES.items():
            with urllib.request.urlopen(f"{server.url}/jobs/1/files/{path}") as answer:
                assert answer.read() == data


def test_a_bundle_that_fails_its_checks_leaves_nothing(
    storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path
) -> None:
    place = in_storage(storage)
    wrong = document_for({**FILES, "data/large": LARGE[:-1] + b"?"})
    assert command(write_bundle(tmp_path / "b.tar", FILES, wrong)).returncode == 1
    assert storage.archived(place) == {}


def test_files_are_moved(
    storage: ObjectServer, in_storage: Setting, command: Command, site: Site, tmp_path: Path
) -> None:
    place = in_storage(storage)
    records = document_for(FILES)
    for record in records[-len(FILES) :]:
        source = tmp_path / "instrument" / record["name"]
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(FILES["/".join([record["subdir"], record["name"]])])
        record["source"] = str(source)
    (tmp_path / "move.json").write_text(json.dumps(records))
    done = command("move", tmp_path / "move.json")
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "instrument").iterdir())
    assert_stored(command, site, storage, place, FILES)


def objects_to_move(server: ObjectServer, files: dict[str, bytes], path: Path) -> ObjectStore:
    """A document of files that are objects in a bucket of their own."""
    import obstore

    instrument = ObjectStore(server.new_bucket(), "")
    records = document_for(files)
    for record in records[-len(files) :]:
        key = f"run 1/{record['name']}"
        obstore.put(server.store(instrument.bucket), key, files["/".join([record["subdir"], record["name"]])])
        record["source"] = f"{instrument}/{key}"
    path.write_text(json.dumps(records))
    return instrument


def test_objects_are_moved_by_the_storage_itself(
    storage: ObjectServer, in_storage: Setting, command: Command, site: Site, tmp_path: Path
) -> None:
    place = in_storage(storage)
    instrument = objects_to_move(storage, FILES, tmp_path / "move.json")
    done = command("move", "--remote-sources", tmp_path / "move.json")
    assert done.returncode == 0, done.stderr
    assert storage.keys(instrument.bucket) == set()
    assert_stored(command, site, storage, place, FILES)


def test_objects_are_moved_back(storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path) -> None:
    """Those that were moved before one was found to be another than the document says."""
    place = in_storage(storage)
    instrument = objects_to_move(storage, FILES, tmp_path / "move.json")
    keys = storage.keys(instrument.bucket)
    import obstore

    obstore.put(storage.store(instrument.bucket), "run 1/b.bin", b"another")
    done = command("move", "--remote-sources", tmp_path / "move.json")
    assert done.returncode == 1
    assert "7 bytes long, not" in done.stderr
    assert storage.archived(place) == {}
    assert storage.keys(instrument.bucket) == keys
    assert command("state", "--json").stdout


def test_no_object_of_the_archive_itself_is_moved(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path
) -> None:
    place = in_storage(strict_storage)
    assert command(write_bundle(tmp_path / "b.tar", SMALL)).returncode == 0
    before = strict_storage.archived(place)
    (record,) = document_for({"data/x": SMALL["data/1"]})[-1:]
    record["source"] = f"{place}/00/0/02.1"
    (tmp_path / "move.json").write_text(json.dumps([*document_for({})[:4], record]))
    done = command("move", "--remote-sources", tmp_path / "move.json")
    assert done.returncode == 1
    assert "one of the archive's own objects" in done.stderr
    assert strict_storage.archived(place) == before


@pytest.mark.parametrize("fault", [FAILED, SLOWED, CUT, LOST, HALVED])
def test_requests_that_fail_now_and_then(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    place = in_storage(strict_storage)
    with disturbed(strict_storage, monkeypatch) as between:
        between.decide = at_random(15, (fault,))
        for name, files in {"small": SMALL, "large": FILES}.items():
            done = command(write_bundle(tmp_path / f"{name}.tar", files))
            assert done.returncode == 0, done.stderr
        assert_stored(command, site, strict_storage, place, SMALL, FILES)


@pytest.mark.parametrize(
    ("method", "part"),
    [("PUT", ".1"), ("POST", "?uploads"), ("PUT", "partNumber=2"), ("POST", "?uploadId"), ("PUT", "ARCHIVE-ID")],
    ids=["a small file", "the beginning of parts", "a part", "the end of parts", "the mark"],
)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "as often as it is sent"])
def test_what_was_done_but_not_answered_is_known_as_done(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    part: str,
    lasting: bool,
) -> None:
    place = in_storage(strict_storage, INGEST_SERVICE_TIMEOUT="0.3" if lasting else "30")
    with disturbed(strict_storage, monkeypatch) as between:
        lost = iter(count()) if lasting else iter([0])

        def decide(asked: str, target: str) -> str | None:
            return LOST if asked == method and part in target and next(lost, None) is not None else None

        between.decide = decide
        bundle = write_bundle(tmp_path / "b.tar", FILES)
        done = command(bundle)
        # Whether all parts have become one object can be seen.
        assert done.returncode == (4 if lasting and part != "?uploadId" else 0), done.stderr
        between.decide = lambda _method, _target: None
        assert command(bundle).returncode == 0
        assert_stored(command, site, strict_storage, place, FILES)


def test_storage_that_is_down_is_waited_for(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = in_storage(strict_storage, INGEST_SERVICE_TIMEOUT="0.3")
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    with disturbed(strict_storage, monkeypatch) as between:
        begun = count()
        between.decide = lambda _method, target: FAILED if "/archive/00" in target and next(begun) > 1 else None
        done = command(bundle)
        assert done.returncode == 4, done.stderr
        assert ": 503 Service" in done.stderr
        between.decide = lambda _method, _target: None
        assert command(bundle).returncode == 0
    assert_stored(command, site, strict_storage, place, FILES)


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "another secret": ({"AWS_SECRET_ACCESS_KEY": "another"}, "the access key's secret is another one: see [s3]"),
    "an unknown key": ({"AWS_ACCESS_KEY_ID": "unknown"}, "the access key is not known: see [s3]"),
    "no such bucket": ({"ARCHIVEINTERFACE_URL": "s3://nowhere/x"}, "no such bucket: see [archiveinterface] url"),
    "nobody there": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Connection refused"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_set_wrong_is_named(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, case: str
) -> None:
    environment, said = WRONG[case]
    in_storage(strict_storage, INGEST_SERVICE_TIMEOUT="1", **environment)
    done = command("doctor")
    assert done.returncode == 4
    assert said in done.stdout


def test_an_access_key_that_may_not_write(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_storage(strict_storage)
    with disturbed(strict_storage, monkeypatch) as between:
        between.decide = lambda method, _target: REFUSED if method == "PUT" else None
        said = command("doctor").stdout
        assert "cannot write in s3://" in said
        assert "the access key may not do that: see [s3]" in said


def test_another_bucket_is_not_taken_for_the_archive(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, site: Site, tmp_path: Path
) -> None:
    place = in_storage(strict_storage)
    assert command(write_bundle(tmp_path / "b.tar", SMALL)).returncode == 0
    in_storage(strict_storage)
    other = command(write_bundle(tmp_path / "c.tar", {"data/c": b"c"}))
    assert other.returncode == 4
    assert "the archive is not in s3://" in other.stderr
    in_storage(strict_storage, ARCHIVEINTERFACE_URL=str(place))
    assert command("retry", "2").returncode == 0
    assert_stored(command, site, strict_storage, place, SMALL, {"data/c": b"c"})


@pytest.mark.parametrize("done", [False, True], ids=["undone", "done"])
def test_killed_at_a_request(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    starting: Callable[..., Running],
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: bool,
) -> None:
    """Also in the midst of an upload in parts, which goes on in threads that Python knows nothing of."""
    place = in_storage(strict_storage)
    stored = []
    with disturbed(strict_storage, monkeypatch) as between:
        for number in range(1, 13, 3):
            files = {**FILES, "data/number": str(number).encode()}
            bundle = write_bundle(tmp_path / f"{number}.tar", files)
            running: list[Running] = []
            between.decide = killing(running, number, LOST if done else CUT)
            running.append(starting(bundle))
            running[0].wait()
            between.decide = lambda _method, _target: None
            assert command(bundle).returncode == 0
            stored.append(files)
    assert_stored(command, site, strict_storage, place, *stored)


def test_what_nobody_ends_is_found(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path
) -> None:
    """A part of an upload, and an object, of a job that this site knows nothing of."""
    place = in_storage(strict_storage)
    assert command(write_bundle(tmp_path / "b.tar", SMALL)).returncode == 0
    key = f"{place.prefix}/00/0/f0.1"
    assert strict_storage.asked("POST", place.bucket, {"uploads": ""}, key).status_code == 200
    import obstore

    obstore.put(strict_storage.store(place.bucket), f"{place.prefix}/00/0/01.2", b"of a run that was frozen")
    found = command("verify", "--all", "--json")
    assert found.returncode == 1
    orphans = [json.loads(line) for line in found.stdout.splitlines()] if found.stdout else []
    assert "orphaned" in json.dumps(orphans)
    assert f"s3://{place.bucket}/{key}?uploadId=" in found.stdout
    assert f"s3://{place.bucket}/{place.prefix}/00/0/01." in found.stdout
