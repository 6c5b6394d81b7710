"""Which files a move takes: none of the program's own, and over HTTP only those of the folders that the site names."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from ingest_cli.errors import IngestError, SourceRefused
from ingest_cli.jobs.job import Job, JobKind
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.spool import SpoolKind
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.embedded.mark import MARK_NAME
from ingest_cli.services.factory import connect
from ingest_cli.settings import load_settings

from ..support.bundles import file_record, transaction, write_bundle
from ..support.command import Command
from ..support.pacifica_double import PacificaSite
from ..support.serving import PATIENCE, Server
from ..support.shown import is_stored
from ..support.site import Site, Witness

JSON_TYPE = {"Content-Type": "application/json"}
THEIRS = b"a file of someone else's"


def document_of(*sources: Path) -> str:
    """A document of files that are there, or are not."""
    contents = [source.read_bytes() if source.is_file() else b"" for source in sources]
    return json.dumps(
        [
            *transaction(),
            *(
                file_record(f"data/{number}", content, source=str(source))
                for number, (source, content) in enumerate(zip(sources, contents, strict=True))
            ),
        ]
    )


def write_document(path: Path, *sources: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document_of(*sources))
    return path


# The program's own files, by whatever name.


@pytest.fixture
def lived_in(environment: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site that has a configuration, a policy, and one bundle stored."""
    (environment / "site").mkdir()
    (environment / "site" / "policy.json").write_text("{}")
    (environment / "config.ini").write_text(f"[policy]\ningest_url = {(environment / 'site/policy.json').as_uri()}\n")
    monkeypatch.setenv("INGEST_CONFIG", str(environment / "config.ini"))
    site.settings = load_settings()
    site.ingest(write_bundle(environment / "b.tar", {"data/stored": b"stored"}))
    spooled = site.settings.spool / "upload-0.tar"
    spooled.parent.mkdir(exist_ok=True)
    spooled.write_bytes(b"spooled")
    site.database.with_name("jobs.sqlite3-transfer-0").touch()
    (environment / "drop").mkdir()
    (environment / "drop" / ".ingest-watch.lock").write_text("a watcher")
    return site


OWN: dict[str, Callable[[Site], Path]] = {
    "the job store": lambda site: site.database,
    "its log": lambda site: site.database.with_name("jobs.sqlite3-wal"),
    "a lock beside it": lambda site: site.database.with_name("jobs.sqlite3-transfer-0"),
    "the ids": lambda site: site.database.with_name("ids.sqlite3"),
    "the catalogue": lambda site: site.catalog,
    "the configuration": lambda site: Path(os.environ["INGEST_CONFIG"]),
    "the policy": lambda site: Path(str(site.settings.policy)),
    "a stored file": lambda site: site.file(1),
    "the mark of the archive": lambda site: Path(str(site.settings.archive)) / MARK_NAME,
    "a spooled file": lambda site: site.settings.spool / "upload-0.tar",
    "a watcher's lock": lambda site: Path(os.environ["INGEST_CONFIG"]).parent / "drop" / ".ingest-watch.lock",
}


def by_its_name(own: Path, folder: Path) -> Path:
    return own


def through_a_linked_folder(own: Path, folder: Path) -> Path:
    (folder / "linked").symlink_to(own.parent)
    return folder / "linked" / own.name


def by_a_hard_link(own: Path, folder: Path) -> Path:
    os.link(own, folder / "harmless")
    return folder / "harmless"


def through_a_mount(own: Path, folder: Path) -> Path:
    (folder / "mounted").mkdir()
    if subprocess.run(["mount", "--bind", own.parent, folder / "mounted"], capture_output=True).returncode != 0:
        pytest.skip("a folder cannot be mounted here")
    return folder / "mounted" / own.name


WAYS = [by_its_name, through_a_linked_folder, by_a_hard_link, through_a_mount]
UNKNOWN = [
    ("a lock beside it", by_a_hard_link),
    ("a lock beside it", through_a_mount),
    ("a watcher's lock", by_a_hard_link),
]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    yield folder
    subprocess.run(["umount", "-l", folder / "mounted"], capture_output=True)


@pytest.mark.sweep
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", OWN)
def test_a_file_of_the_programs_own_is_never_a_source(
    lived_in: Site, elsewhere: Path, tmp_path: Path, what: str, way: Callable[[Path, Path], Path]
) -> None:
    if (what, way) in UNKNOWN:
        pytest.skip("another name of a lock is not known, and to remove it harms no one")
    own = OWN[what](lived_in)
    with open_store(lived_in.settings):  # a write-ahead log is there as long as someone has its database open
        source = way(own, elsewhere)
        before, found = lived_in.archived(), source.stat()
        with pytest.raises(SourceRefused, match="of this program's own"):
            lived_in.move(write_document(tmp_path / "d.json", source))
        assert (source.stat().st_ino, source.stat().st_mode) == (found.st_ino, found.st_mode)
        assert own.samefile(source)
    assert lived_in.archived() == before
    assert lived_in.jobs()[0].task == "move files"
    assert lived_in.ingest(write_bundle(tmp_path / "next.tar", {"data/next": b"next"})).is_done


def test_a_file_is_not_taken_for_the_programs_own(lived_in: Site, elsewhere: Path, tmp_path: Path) -> None:
    """One beside its databases, one that is read-only and has another name, and one that an earlier run has linked."""
    beside = lived_in.database.with_name("jobs.sqlite3.txt")
    beside.write_text("notes")
    linked = elsewhere / "one"
    linked.write_text("read-only")
    linked.chmod(0o444)
    os.link(linked, elsewhere / "two")
    assert lived_in.move(write_document(tmp_path / "d.json", beside, linked)).is_done
    assert [path.name for path in elsewhere.iterdir()] == ["two"]
    assert not beside.exists()


@pytest.mark.sweep  # it takes some seconds until a file has settled
def test_a_drop_folder_of_moves_takes_none_of_the_programs_own(
    lived_in: Site, command: Command, tmp_path: Path
) -> None:
    write_document(tmp_path / "documents" / "d.json", lived_in.catalog)
    done = command("watch", "--once", "--move", tmp_path / "documents")
    assert done.returncode != 0
    assert "of this program's own" in done.stderr
    assert lived_in.catalog.exists()


# Over HTTP: only from the folders that are named.


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    return tmp_path / "in"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    for folder in (tmp_path / "out", tmp_path / "in-other"):
        folder.mkdir()
        (folder / "file").write_bytes(THEIRS)
    return tmp_path / "out"


def post(server: Server, *sources: Path | str) -> requests.Response:
    document = document_of(*map(Path, sources))
    return requests.post(f"{server.url}/move", data=document, headers=JSON_TYPE, timeout=PATIENCE)


def test_no_file_is_moved_over_http_where_no_folder_is_named(environment: Path, outside: Path) -> None:
    with Server(environment) as server:
        answer = post(server, outside / "file")
        assert answer.status_code == 403
        assert "[server] move_from" in answer.json()["message"]
        assert "INGEST_MOVE_FROM" in answer.json()["message"]
        assert requests.get(f"{server.url}/jobs", timeout=PATIENCE).json() == []
    assert (outside / "file").read_bytes() == THEIRS


def test_files_are_moved_over_http_from_the_named_folders_only(
    environment: Path, site: Site, inside: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inside / "link").symlink_to(outside)
    (inside / "file link").symlink_to(outside / "file")
    (inside / "deep" / "file").write_bytes(b"1")
    second = inside.with_name("a second one")
    second.mkdir()
    (second / "file").write_bytes(b"2")
    alias = inside.with_name("alias")
    alias.symlink_to(inside)
    monkeypatch.setenv("INGEST_MOVE_FROM", f"{alias}{os.pathsep}{second}")
    refused = [
        outside / "file",
        inside.with_name("in-other") / "file",
        f"{inside}/../out/file",
        inside / "link" / "file",
        alias / "link" / "file",
        f"/{inside}/deep/file",
        "deep/file",
        "",
        "/",
        f"{inside}/\0",
        f"{inside}/" + "x/" * 5000,
        site.database,
        "/proc/self/environ",
    ]
    with Server(environment) as server:
        for source in refused:
            answer = requests.post(
                f"{server.url}/move",
                data=json.dumps([{"destinationTable": "Files", "source": str(source)}]),
                headers=JSON_TYPE,
                timeout=PATIENCE,
            )
            assert answer.status_code in (403, 200) if len(str(source)) > 4096 else answer.status_code == 403, source
        failed = server.settled(post(server, inside / "file link").json()["job_id"])
        assert (failed["state"], failed["task"]) == ("FAILED", "move files")
        moved = server.settled(post(server, inside / "deep" / "file", alias / "deep" / "file").json()["job_id"])
        assert moved["state"] == "FAILED", "these are one file"
        moved = server.settled(post(server, alias / "deep" / "file", second / "file").json()["job_id"])
        assert is_stored(moved), moved
    assert site.contents() == {"data/0": b"1", "data/1": b"2"}
    assert (outside / "file").read_bytes() == THEIRS


class Received:
    """The document of a move as the server left it in the spool, and its job as a worker finds it."""

    def __init__(self, site: Site, inside: Path) -> None:
        self._site = site
        site.settings = load_settings(environment={**os.environ, "INGEST_MOVE_FROM": str(inside)})

    def run(self, witness: Witness, *sources: Path) -> Job:
        path = SpoolKind.RECEIVED.path(self._site.settings.spool, f"{len(self._site.jobs())}.json")
        write_document(path, *sources)
        with connect(self._site.settings) as services, open_store(self._site.settings) as store:
            runner = Runner(self._site.settings, services, store)
            job = submit(
                store,
                services.unique_id,
                JobKind.MOVE,
                path,
                user="u",
                holder=this_process(),
                spooled=True,
            )
            return runner.run(job, witness)


class Intruder(Witness):
    """Puts a link to ``outside`` in the place of a folder, when so many things have happened."""

    def __init__(self, folder: Path, outside: Path, *, at: int) -> None:
        super().__init__()
        self._folder, self._outside, self._at = folder, outside, at
        self.seen = 0

    def _happened(self) -> None:
        self.seen += 1
        if self.seen == self._at:
            self._folder.rename(self._folder.with_name("set aside"))
            self._folder.symlink_to(self._outside)

    def stage(self, task: str) -> None:
        super().stage(task)
        self._happened()

    def plan(self, files: int, total_bytes: int) -> None:
        self._happened()

    def checked(self, length: int, files: int = 0) -> None:
        self._happened()

    def stored(self, length: int, files: int = 0) -> None:
        self._happened()


@pytest.mark.parametrize("at", range(1, 16))
def test_a_link_that_comes_to_stand_on_the_way_leads_nowhere(site: Site, inside: Path, tmp_path: Path, at: int) -> None:
    """What lies there has the same names and bytes as what was named, so that nothing else tells them apart."""
    outside = tmp_path / "out"
    outside.mkdir()
    names = ["a", "b"]
    for folder in (inside / "deep", outside):
        for name in names:
            (folder / name).write_bytes(name.encode())
    before = {name: (outside / name).stat() for name in names}
    intruder = Intruder(inside / "deep", outside, at=at)
    try:
        job = Received(site, inside).run(intruder, *(inside / "deep" / name for name in names))
    except IngestError:
        job = site.jobs()[0]
        assert job.state in ("failed", "held")
    if intruder.seen >= at:
        assert (inside / "deep").is_symlink()
    elif at > 12:
        pytest.skip("nothing more happens")
    assert sorted(path.name for path in outside.iterdir()) == names
    for name, found in before.items():
        now = (outside / name).stat()
        assert (now.st_ino, now.st_nlink, now.st_mode, now.st_mtime_ns) == (
            found.st_ino,
            1,
            found.st_mode,
            found.st_mtime_ns,
        )
        theirs = inside / "set aside" / name
        assert theirs.exists() or job.is_done or intruder.seen < at
        assert not theirs.exists() or not job.is_done or theirs.stat().st_nlink == 1, "the archive's file is its own"


def test_what_is_moved_back_follows_no_link(site: Site, inside: Path, tmp_path: Path) -> None:
    outside = tmp_path / "out"
    outside.mkdir()
    for name in ("a", "b"):
        (inside / "deep" / name).write_bytes(name.encode())

    class Thief(Witness):
        """Once ``a`` is in the archive, takes it away where it lay, and has the job fail by ``b``."""

        def stored(self, length: int, files: int = 0) -> None:
            if (inside / "deep").is_symlink():
                return
            (inside / "deep").rename(inside / "set aside")
            (inside / "deep").symlink_to(outside)

    with pytest.raises(IngestError):
        Received(site, inside).run(Thief(), inside / "deep" / "a", inside / "deep" / "b")
    assert list(outside.iterdir()) == []
    job = site.jobs()[0]
    assert job.state == "held"
    assert "reached by a link now" in job.exception
    (inside / "deep").unlink()
    (inside / "set aside").rename(inside / "deep")
    with open_store(site.settings) as store, connect(site.settings) as services:
        assert Runner(site.settings, services, store).run(store.get(job.job_id), Witness()).is_done
    assert site.contents() == {"data/0": b"a", "data/1": b"b"}


def test_who_runs_such_a_job_needs_the_setting_too(
    site: Site, inside: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inside / "file").write_bytes(b"1")
    received = Received(site, inside)
    for folders, saying in [("", r"names none"), (str(outside), r"not in a folder that \[server\] move_from names")]:
        site.settings = load_settings(environment={**os.environ, "INGEST_MOVE_FROM": folders})
        with pytest.raises(SourceRefused, match=saying):
            received.run(Witness(), inside / "file")
    assert (inside / "file").exists()
    assert site.holds_nothing()


def test_of_what_only_the_archive_sees_the_name_decides(
    environment: Path, pacific: PacificaSite, inside: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies here under that name, perhaps a link, is another file."""
    pacific.root, pacific.folder = environment / "archives machine", environment / "archive"
    there = pacific.root / inside.relative_to("/") / "deep"
    for folder in (pacific.folder, there):
        folder.mkdir(parents=True)
    (there / "file").write_bytes(b"1")
    (inside / "deep").rmdir()
    (inside / "deep").symlink_to(outside)
    monkeypatch.setenv("ARCHIVEINTERFACE_REMOTE_SOURCES", "yes")
    record = file_record("data/file", b"1")
    with Server(environment, "--move-from", inside) as server:
        for source, status in [
            (f"{inside}/deep/file", 200),
            (f"{outside}/file", 403),
            (f"{inside}/../out/file", 403),
            (f"{inside}-other/file", 403),
        ]:
            document = json.dumps([*transaction(), {**record, "source": source}])
            answer = requests.post(f"{server.url}/move", data=document, headers=JSON_TYPE, timeout=PATIENCE)
            assert answer.status_code == status, source
            if status == 200:
                state = server.settled(answer.json()["job_id"])
                assert is_stored(state), state
    assert not (there / "file").exists()
    assert (outside / "file").read_bytes() == THEIRS


def test_the_command_line_may_move_from_anywhere(site: Site, tmp_path: Path, outside: Path) -> None:
    site.settings = load_settings(environment={**os.environ, "INGEST_MOVE_FROM": "/nowhere"})
    assert site.move(write_document(tmp_path / "d.json", outside / "file")).is_done
    assert site.contents() == {"data/0": THEIRS}
