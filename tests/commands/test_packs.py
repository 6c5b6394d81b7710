"""Small files in packs: the whole road by the command line, and what becomes of a pack that is damaged or left."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.settings import ObjectStore

from ..support.bundles import document_for, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.object_stores import CUT, FAILED, LOST, Between, ObjectServer, at_random
from ..support.site import Site
from ..support.site_in_storage import Setting, assert_stored, disturbed, killing

pytestmark = pytest.mark.cluster

CHANCE = random.Random(7)
# Files for two packs or three, by where a job's ids begin, and some that are too large.
FILES = {
    f"data/{number % 7}/{number:03}": CHANCE.randbytes(CHANCE.choice([0, 9, 700, 5000]) + 3 * (number % 2))
    for number in range(300)
} | {f"data/large {number}": CHANCE.randbytes(70_000 + number) for number in range(3)}
FEW = {f"data/{number}": f"file {number}\n".encode() * number for number in range(1, 6)}
PACKED = {"ARCHIVEINTERFACE_PACK_BELOW": "64KiB"}


def packs(server: ObjectServer, place: ObjectStore) -> list[str]:
    return sorted(key for key in server.keys(place.bucket, place.prefix) if key.endswith(".zip"))


def told(stdout: str) -> list[dict[str, Any]]:
    """The damage that verify has told of."""
    return [line for line in map(json.loads, stdout.splitlines()) if line["event"] == "damage"]


def test_small_files_go_into_packs_and_come_back(
    storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = in_storage(storage, **PACKED)
    assert command("doctor").returncode == 0
    for name, files in {"one": FILES, "two": FEW}.items():
        done = command(write_bundle(tmp_path / f"{name}.tar", files))
        assert done.returncode == 0, done.stderr
    assert len(storage.keys(place.bucket, place.prefix)) <= 1 + 3 + 4
    # Whatever is set later.
    monkeypatch.setenv("ARCHIVEINTERFACE_PACK_BELOW", "0")
    assert_stored(command, site, storage, place, FILES, FEW)
    assert command("restore", "1", "--to", tmp_path / "back").returncode == 0
    assert {path: (tmp_path / "back" / path).read_bytes() for path in FILES} == FILES
    assert command("cat", "2", "data/3").stdout == "file 3\n" * 3
    assert command("ls", "1").returncode == 0
    assert command("verify", "--fast", "--sample", "50", "1").returncode == 0
    assert command(write_bundle(tmp_path / "three.tar", {"data/x": b"x"})).returncode == 0
    assert_stored(command, site, storage, place, FILES, FEW, {"data/x": b"x"})


def test_a_pack_is_taken_apart_without_ingest(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, site: Site, tmp_path: Path
) -> None:
    import obstore

    place = in_storage(strict_storage, **PACKED)
    assert command(write_bundle(tmp_path / "b.tar", FEW)).returncode == 0
    (key,) = packs(strict_storage, place)
    pack = tmp_path / "pack.zip"
    pack.write_bytes(obstore.get(strict_storage.store(place.bucket), key).bytes())
    unzip = ["unzip", "-tq"] if shutil.which("unzip") else [sys.executable, "-m", "zipfile", "-t"]
    subprocess.run([*unzip, pack], check=True)
    rows = {str(row["id"]): row for row in site.rows("Files")}
    with zipfile.ZipFile(pack) as opened:
        assert {f"data/{rows[name]['name']}": opened.read(name) for name in opened.namelist()} == FEW
        for entry in opened.infolist():
            row = rows[entry.filename]
            assert entry.comment.decode().partition(" ")[0] == f"{row['hashtype']}:{row['hashsum']}"


def test_what_is_rolled_back_leaves_no_pack(
    storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = in_storage(storage, INGEST_SERVICE_TIMEOUT="0.3", **PACKED)
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    with disturbed(storage, monkeypatch) as between:
        sent: list[str] = []

        def decide(method: str, target: str) -> str | None:
            if method == "PUT" and ".zip" in target:
                sent.append(target)
            return FAILED if method == "PUT" and ".zip" in target and len(set(sent)) > 1 else None

        between.decide = decide
        assert command(bundle).returncode == 4
    assert len(packs(storage, place)) == 1
    assert command("discard", "1", "--yes").returncode == 0
    assert storage.archived(place) == {}


def test_a_bundle_that_fails_its_checks_packs_nothing(
    storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path
) -> None:
    place = in_storage(storage, **PACKED)
    wrong = document_for({**FEW, "data/3": b"?" * len(FEW["data/3"])})
    assert command(write_bundle(tmp_path / "b.tar", FEW, wrong)).returncode == 1
    assert storage.archived(place) == {}


def test_moved_files_stay_objects_of_their_own(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, site: Site, tmp_path: Path
) -> None:
    place = in_storage(strict_storage, **PACKED)
    records = document_for(FEW)
    for record in records[-len(FEW) :]:
        source = tmp_path / "instrument" / record["name"]
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(FEW["/".join([record["subdir"], record["name"]])])
        record["source"] = str(source)
    (tmp_path / "move.json").write_text(json.dumps(records))
    assert command("move", tmp_path / "move.json").returncode == 0
    assert packs(strict_storage, place) == []
    assert_stored(command, site, strict_storage, place, FEW)


@pytest.mark.parametrize("what", ["a file", "the directory", "the end", "all of it"])
def test_damage_is_told_of_the_files_that_it_is_of(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path, what: str
) -> None:
    import obstore

    place = in_storage(strict_storage, **PACKED)
    for name, files in {"one": {**FEW, "data/large": bytes(70_000)}, "two": {"data/other": b"other"}}.items():
        assert command(write_bundle(tmp_path / f"{name}.tar", files)).returncode == 0
    key, _ = packs(strict_storage, place)
    store = strict_storage.store(place.bucket)
    data = bytearray(obstore.get(store, key).bytes())
    at = {"a file": data.index(b"file 3"), "the directory": data.index(b"PK\1\2"), "the end": len(data) - 8}
    if what in at:
        data[at[what]] ^= 1
        obstore.put(store, key, bytes(data))
    else:
        obstore.delete(store, [key])
    said = command("verify", "--all", "--json")
    assert said.returncode == 1
    damaged = told(said.stdout)
    assert {file["name"] for file in damaged} == ({"data/3"} if what == "a file" else set(FEW))
    assert all(key in file["problem"] for file in damaged) or what == "all of it"
    assert command("cat", "1", "data/large").returncode == 0
    assert command("cat", "2", "data/other").stdout == "other"


def test_orphans_in_packs(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, site: Site, tmp_path: Path
) -> None:
    """A pack of which nothing is recorded is one; of another, what is not recorded is told, and that others are."""
    in_storage(strict_storage, **PACKED)
    for name, files in {"one": FEW, "two": {"data/a": b"a", "data/b": b"b"}}.items():
        assert command(write_bundle(tmp_path / f"{name}.tar", files)).returncode == 0
    whole, part = site.rows("Files")[-1]["id"], site.rows("Files")[1]["id"]
    with closing(sqlite3.connect(site.catalog)) as catalog, catalog:
        catalog.execute("DELETE FROM Files WHERE id IN (?, ?, ?)", (whole, whole - 1, part))
    orphans = [file for file in told(command("verify", "--all", "--json").stdout) if "orphaned" in file["problem"]]
    assert [(file["file_id"], file["problem"]) for file in orphans] == [
        (part, "orphaned, but do not delete it: 4 files of a job are in the same object"),
        (None, "orphaned"),
    ]
    assert all(".zip" in file["name"] for file in orphans)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "as often as it is sent"])
def test_a_pack_that_was_stored_but_not_answered_is_known_as_stored(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lasting: bool,
) -> None:
    place = in_storage(strict_storage, INGEST_SERVICE_TIMEOUT="0.3" if lasting else "30", **PACKED)
    with disturbed(strict_storage, monkeypatch) as between:
        lost: list[str] = []

        def decide(method: str, target: str) -> str | None:
            if method == "PUT" and ".zip" in target and (lasting or not lost):
                lost.append(target)
                return LOST
            return None

        between.decide = decide
        bundle = write_bundle(tmp_path / "b.tar", FILES)
        done = command(bundle)
        assert done.returncode == (4 if lasting else 0), done.stderr
        between.decide = lambda _method, _target: None
        assert command(bundle).returncode == 0
        assert lost
    assert_stored(command, site, strict_storage, place, FILES)


def test_requests_that_fail_now_and_then(
    storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = in_storage(storage, **PACKED)
    with disturbed(storage, monkeypatch) as between:
        # rclone looks at no conditions, and sends what was lost again.
        between.decide = at_random(15)
        for number in range(3):
            files = {**FILES, "data/number": str(number).encode()}
            done = command(write_bundle(tmp_path / f"{number}.tar", files))
            assert done.returncode == 0, done.stderr
        between.decide = lambda _method, _target: None
    assert_stored(
        command, site, storage, place, *({**FILES, "data/number": str(number).encode()} for number in range(3))
    )


@pytest.mark.parametrize("then", [CUT, LOST], ids=["before it is sent", "after it was stored"])
def test_killed_at_a_pack(
    strict_storage: ObjectServer,
    in_storage: Setting,
    command: Command,
    starting: Callable[..., Running],
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: str,
) -> None:
    place = in_storage(strict_storage, **PACKED)
    with disturbed(strict_storage, monkeypatch) as between:
        bundle, running = write_bundle(tmp_path / "b.tar", FILES), list[Running]()
        kill = killing(running, 1, then)
        between.decide = lambda method, target: kill(method, target) if method == "PUT" and ".zip" in target else None
        running.append(starting(bundle))
        running[0].wait()
        between.decide = lambda _method, _target: None
        assert command(bundle).returncode == 0
    assert_stored(command, site, strict_storage, place, FILES)


def test_a_neighbour_costs_no_request(
    strict_storage: ObjectServer, in_storage: Setting, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_storage(strict_storage, **PACKED)
    small = {path: data for path, data in FILES.items() if "large" not in path}
    with disturbed(strict_storage, monkeypatch) as between:
        assert command(write_bundle(tmp_path / "b.tar", small)).returncode == 0
        stored = len(between.seen)
        assert command("restore", "1", "--to", tmp_path / "back").returncode == 0
        read = len(between.seen) - stored
    assert_few(between, stored, read)


def assert_few(between: Between, stored: int, read: int) -> None:
    """Far fewer requests than there are files."""
    assert stored <= 20, between.seen
    assert read <= 60, between.seen[stored:]
