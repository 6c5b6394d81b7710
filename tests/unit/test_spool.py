"""Which files of the spool are orphaned: those that nobody writes, no job needs, and that were left for long enough."""

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest_cli.errors import BundleError, ServiceUnavailable
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.orphans import orphans, remove_orphan
from ingest_cli.jobs.spool import SpoolFile, SpoolKind, record_of, spooled_input
from ingest_cli.jobs.store import open_store

from ..support.site import Site

LONG_AGO = 365 * 24 * 3600


def leave(path: Path, age: float = LONG_AGO, content: bytes = b"begun") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def orphans_of(site: Site) -> list[Path]:
    with open_store(site.settings) as store:
        return orphans(site.settings.spool, store)


@pytest.mark.parametrize("kind", SpoolKind)
def test_what_was_left_for_long(site: Site, kind: SpoolKind) -> None:
    path = leave(kind.path(site.settings.spool, "0.tar"))
    leave(site.settings.spool / "notes.txt")
    assert orphans_of(site) == [path], "even an upload whose record was not written"


@pytest.mark.parametrize("kind", [kind for kind in SpoolKind if kind.untouched])
def test_what_was_written_to_not_long_ago(site: Site, kind: SpoolKind) -> None:
    leave(kind.path(site.settings.spool, "0.tar"), kind.untouched.total_seconds() - 60)
    assert orphans_of(site) == []


@pytest.mark.parametrize(("content", "age", "is_left"), [(b"", 4000, True), (b"", 3000, False), (b"x", 4000, False)])
def test_an_upload_of_which_nothing_came_is_not_kept_for_long(
    site: Site, content: bytes, age: float, is_left: bool
) -> None:
    upload = leave(SpoolKind.RESUMABLE.path(site.settings.spool, "0.tar"), age, content)
    record = leave(record_of(upload), age)
    assert orphans_of(site) == ([record, upload] if is_left else [])


def test_an_upload_is_as_old_as_the_newer_of_its_files(site: Site) -> None:
    upload = SpoolKind.RESUMABLE.path(site.settings.spool, "0.tar")
    leave(record_of(upload))
    leave(upload, 60)
    assert orphans_of(site) == []
    leave(upload)
    assert orphans_of(site) == [record_of(upload), upload]


def test_the_record_of_an_upload_that_its_job_has_removed(site: Site) -> None:
    record = leave(record_of(SpoolKind.RESUMABLE.path(site.settings.spool, "0.tar")))
    assert orphans_of(site) == [record]


@pytest.mark.parametrize("kind", SpoolKind)
def test_what_is_being_written(site: Site, kind: SpoolKind) -> None:
    with SpoolFile.fresh(kind, site.settings.spool, ".tar") as file:
        leave(file.path)
        assert orphans_of(site) == []


def test_a_file_is_made_while_others_look_for_orphans(site: Site) -> None:
    """They may find it before it is locked."""
    ended = threading.Event()

    def sweep() -> None:
        with open_store(site.settings) as store:
            while not ended.is_set():
                for path in orphans(site.settings.spool, store, [SpoolKind.RECEIVED]):
                    remove_orphan(path, store)

    with ThreadPoolExecutor(1) as pool:
        sweeping = pool.submit(sweep)
        try:
            for _ in range(1500):
                with SpoolFile.fresh(SpoolKind.RECEIVED, site.settings.spool, ".tar") as file:
                    assert file.path.exists()
        finally:
            ended.set()
        sweeping.result()


def test_an_orphan_that_is_needed_again_is_not_removed(site: Site) -> None:
    """It was listed a while ago, when somebody was asked about it."""
    upload = leave(SpoolKind.RESUMABLE.path(site.settings.spool, "0.tar"))
    record = leave(record_of(upload))
    with open_store(site.settings) as store:
        with SpoolFile(upload, 0, new=False) as file:
            assert not remove_orphan(upload, store)
            file.write(b"more")
        assert not remove_orphan(upload, store)
        assert not remove_orphan(record, store)
        leave(upload)
        leave(record)
        store.submit(1, kind=JobKind.BUNDLE, source=str(upload), fingerprint="1:2:3", user="u", holder=None)
        assert not remove_orphan(record, store)
        assert upload.exists()
        store.undo(store.lease(1).fence, JobState.FAILED, "UPLOADING", "given up")
        store.forget([1])
        assert remove_orphan(record, store)
    assert list(site.settings.spool.iterdir()) == []


@pytest.mark.parametrize("kind", SpoolKind)
def test_what_a_job_needs(site: Site, kind: SpoolKind) -> None:
    path = leave(kind.path(site.settings.spool, "0.tar"))
    with open_store(site.settings) as store:
        store.submit(1, kind=JobKind.BUNDLE, source=str(path), fingerprint="1:2:3", user="u", holder=None, spooled=True)
    assert orphans_of(site) == []


def test_standard_input_is_kept_for_a_job_that_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable) as raised, spooled_input(io.BytesIO(b"content"), tmp_path) as path:
        raise ServiceUnavailable("the archive is down")
    assert path.read_bytes() == b"content"
    assert str(path) in raised.value.lines[-1]


def test_standard_input_is_removed_with_a_job_that_failed(tmp_path: Path) -> None:
    with pytest.raises(BundleError), spooled_input(io.BytesIO(b"content"), tmp_path):
        raise BundleError("no tar")
    with spooled_input(io.BytesIO(b"content"), tmp_path) as path:
        assert path.exists()
    assert list(tmp_path.iterdir()) == []
