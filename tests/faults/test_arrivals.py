"""Bundles whose files were hashed while they arrived: nothing that is not right gets into an archive for it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ingest_cli.bundle.sums import SOON_NS, note_sums
from ingest_cli.bundle.tar import members
from ingest_cli.errors import FileRefused
from ingest_cli.jobs.job import JobState
from ingest_cli.pipeline import bundle_files
from ingest_cli.services.pacifica import http
from ingest_cli.settings import load_settings

from ..support.attributes import require_attributes
from ..support.bundles import FILES, document_for, write_bundle
from ..support.pacifica_double import Handler, PacificaSite
from ..support.serving import OCTETS, PATIENCE, Server
from ..support.site import Site
from ..support.tus import append, checksum, create


@pytest.fixture(autouse=True)
def attributes(tmp_path: Path) -> None:
    require_attributes(tmp_path)


@pytest.fixture
def pacific(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    with PacificaSite() as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        site.settings = load_settings()
        yield server


@pytest.fixture
def read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As bundles are that are too large to be kept in memory."""
    monkeypatch.setattr(bundle_files, "KEPT_BYTES", 0)


def note(bundle: Path, digests: dict[str, bytes]) -> None:
    with bundle.open("rb") as file:
        found = {member.name: member for member in members(file.fileno())}
        note_sums(
            file.fileno(), "sha1", [(found[name].offset, found[name].size, digest) for name, digest in digests.items()]
        )


def sums_of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: hashlib.sha1(content).digest() for name, content in files.items()}


@pytest.mark.usefixtures("read_twice")
def test_what_is_known_of_a_file_is_compared(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    note(bundle, sums_of({**FILES, "data/a.txt": b"another"}))
    with pytest.raises(FileRefused, match=hashlib.sha1(b"another").hexdigest()):
        site.ingest(bundle)
    assert not pacific.files
    assert not [request for request in pacific.requests if request[0] == "PUT"]


@pytest.mark.usefixtures("read_twice")
def test_what_is_known_is_forgotten_when_a_file_was_touched(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    """Its note, wrong as it is here, may be of what it was before. Its bytes are read."""
    bundle = write_bundle(tmp_path / "b.tar")
    note(bundle, sums_of({**FILES, "data/a.txt": b"another"}))
    found = bundle.stat()
    while bundle.stat().st_ctime_ns < found.st_ctime_ns + 2 * SOON_NS:
        os.utime(bundle, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert site.ingest(bundle).is_done
    assert sorted(pacific.files.values()) == sorted(FILES.values())


@pytest.mark.usefixtures("read_twice")
def test_what_is_sent_is_hashed_whatever_is_known(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    """The note is right of what the document says, but not of the bytes."""
    wrong = {**FILES, "data/sub/b.bin": b"x" * len(FILES["data/sub/b.bin"])}
    bundle = write_bundle(tmp_path / "b.tar", wrong, document_for(FILES))
    note(bundle, sums_of(FILES))
    with pytest.raises(FileRefused, match=r"data/sub/b\.bin"):
        site.ingest(bundle)
    assert not pacific.files
    assert [job.state for job in site.jobs()] == [JobState.FAILED]


@pytest.mark.usefixtures("read_twice")
@pytest.mark.parametrize("wrong", [None, 0, 5])
def test_several_large_files_are_checked_at_once(
    site: Site, pacific: PacificaSite, tmp_path: Path, wrong: int | None
) -> None:
    """All of them, before the first is sent."""
    files = {f"data/{number}": bytes([number]) * (3 << 20) for number in range(6)}
    document = document_for(files | ({} if wrong is None else {f"data/{wrong}": b"x" * (3 << 20)}))
    bundle = write_bundle(tmp_path / "b.tar", files, document)
    if wrong is None:
        assert site.ingest(bundle).is_done
        assert sorted(pacific.files.values()) == list(files.values())
        return
    with pytest.raises(FileRefused, match=f"data/{wrong}"):
        site.ingest(bundle)
    assert not pacific.files
    assert not [request for request in pacific.requests if request[0] == "PUT"]


def send(server: Server, content: bytes, way: str) -> int:
    """The id of the job of a bundle that was sent as a whole, in chunks, or in pieces with checksums."""
    if way != "pieces":
        body = iter([content[:1_000_000], content[1_000_000:]]) if way == "chunks" else content
        answer = requests.post(f"{server.url}/upload", data=body, headers=OCTETS, timeout=PATIENCE)
        return int(answer.json()["job_id"])
    url = create(server, len(content))
    for at in range(0, len(content), 30 << 20):
        piece = content[at : at + (30 << 20)]
        assert append(url, at, bytes(1000), checksum(b"others")).status_code == 460
        answer = append(url, at, piece, checksum(piece))
    return int(answer.headers["Ingest-Job-Id"])


@pytest.mark.sweep
@pytest.mark.parametrize("is_wrong", [False, True])
@pytest.mark.parametrize("way", ["whole", "chunks", "pieces"])
def test_a_large_upload(
    environment: Path, site: Site, pacific: PacificaSite, tmp_path: Path, is_wrong: bool, way: str
) -> None:
    files = {"data/first": os.urandom(1 << 20) * 65, "data/last": os.urandom(2 << 20)}
    document = document_for({**files, "data/last": b"x" * (2 << 20)} if is_wrong else files)
    content = write_bundle(tmp_path / "b.tar", files, document).read_bytes()
    hashed: list[Path] = []

    def guard(handler: Handler) -> bool:
        # While policy is asked: neither has the job's run begun to check, nor is its bundle gone.
        if handler.path == "/policy":
            hashed.extend(path for path in site.settings.spool.glob("*.tar") if os.listxattr(path))
        return False

    pacific.guard = guard
    with Server(environment) as server:
        state = server.settled(send(server, content, way))
    assert state["state"] == ("FAILED" if is_wrong else "OK"), state
    assert sorted(map(len, pacific.files.values())) == ([] if is_wrong else [2 << 20, 65 << 20])
    assert hashed
