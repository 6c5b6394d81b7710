"""Which host can run a job."""

import os
from pathlib import Path

import pytest

from ingest_cli.errors import SettingsError
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.queues import SHARED, Queues
from ingest_cli.settings import Cluster, load_settings

HOST = Queues("here")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def test_what_lies_on_a_disk_of_the_host_is_run_by_no_other(tmp_path: Path) -> None:
    assert HOST.queue_of(JobKind.BUNDLE, str(tmp_path / "bundle.tar")) == "local:here"
    assert HOST.names == ["local:here", SHARED]


@pytest.mark.parametrize("kind", [JobKind.BUNDLE, JobKind.FOLDER])
def test_what_lies_in_a_shared_folder_is_run_by_any(shared: Path, kind: JobKind) -> None:
    assert Queues("here", (shared,)).queue_of(kind, str(shared / "bundle.tar")) == SHARED


def test_a_link_is_where_it_leads(shared: Path, tmp_path: Path) -> None:
    queues = Queues("here", (shared,))
    (shared / "out").symlink_to(tmp_path)
    (tmp_path / "in").symlink_to(shared)
    assert queues.queue_of(JobKind.BUNDLE, str(shared / "out" / "bundle.tar")) == queues.local
    assert queues.queue_of(JobKind.BUNDLE, str(tmp_path / "in" / "bundle.tar")) == SHARED


def test_a_move_stays_where_it_was_submitted(shared: Path) -> None:
    queues = Queues("here", (shared,))
    assert queues.queue_of(JobKind.MOVE, str(shared / "document.json")) == queues.local


def test_what_lies_in_an_object_store_is_run_by_any() -> None:
    assert HOST.queue_of(JobKind.BUNDLE, "s3://spool/uploads/17") == SHARED


def test_a_folder_named_alike_is_not_shared(shared: Path) -> None:
    queues = Queues("here", (shared,))
    assert queues.queue_of(JobKind.BUNDLE, f"{shared}-of-others/bundle.tar") == queues.local


def test_the_host_is_called_as_the_settings_say() -> None:
    assert Queues.of_host(Cluster(host="one")).host == "one"


def test_the_machines_name_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names = os.uname()

    def called(name: str) -> os.uname_result:
        return os.uname_result((names.sysname, name, names.release, names.version, names.machine))

    monkeypatch.setattr(os, "uname", lambda: called("instrument-7"))
    assert Queues.of_host(Cluster()).host == "instrument-7"
    monkeypatch.setattr(os, "uname", lambda: called("a machine"))
    with pytest.raises(SettingsError, match=r"set \[cluster\] host"):
        Queues.of_host(Cluster())


@pytest.mark.parametrize("name", ["a b", "a" * 33, "local:here", "hört"])
def test_a_name_that_cannot_be_that_of_a_queue(name: str) -> None:
    with pytest.raises(SettingsError, match="is not the name of a host"):
        load_settings(environment={"HOME": "/home/user", "INGEST_HOST": name})
