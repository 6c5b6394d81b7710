"""The few names that a script needs, as the README uses them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ingest_cli
from ingest_cli import (
    IngestError,
    JobFilter,
    JobKind,
    JobStatus,
    api,
    back_up,
    check_bundle,
    check_bundles,
    count_jobs,
    diagnose,
    find_copies,
    find_job,
    ingest_bundle,
    ingest_files,
    list_jobs,
    load_settings,
    move_files,
    pack_bundle,
    prune,
    queue_each,
    queue_files,
    restore_bundle,
    restore_folder,
    run_queue,
    save_receipt,
    upload,
    verify_job,
    verify_receipt,
)
from ingest_cli.api import AnyPath
from ingest_cli.jobs.store import open_store

from ..support.bundles import FILES, document_for, write_bundle
from ..support.site import Site

ROOT = Path(__file__).parents[2]


def test_a_bundle_from_python(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    assert check_bundle(bundle).problems == []
    job = ingest_bundle(bundle)
    assert job.is_done
    assert site.contents() == FILES
    assert find_job(job.job_id) == job
    assert verify_job(job.job_id) == []
    assert restore_bundle(job.job_id, tmp_path / "again.tar") == len(FILES)
    assert ingest_bundle(bundle).job_id == ingest_bundle(tmp_path / "again.tar", again=True).job_id - 1 == job.job_id


def test_the_same_document_from_elsewhere_is_the_earlier_job(site: Site, tmp_path: Path) -> None:
    assert ingest_bundle(write_bundle(tmp_path / "b.tar")).job_id == 1
    assert ingest_bundle(write_bundle(tmp_path / "copy.tar")).job_id == 1


def test_what_is_wrong_is_raised(site: Site, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="not a list of records") as raised:
        ingest_bundle(write_bundle(tmp_path / "b.tar", metadata=b"{}"))
    assert not raised.value.transient
    assert find_job(1).state == "failed"
    with pytest.raises(IngestError):
        move_files(tmp_path / "none.json")


def test_settings_of_a_file(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "config.ini"
    config.write_text(f"[archiveinterface]\nurl = {(tmp_path / 'elsewhere').as_uri()}\n")
    ingest_bundle(write_bundle(tmp_path / "b.tar"), settings=load_settings(config=config))
    assert any((tmp_path / "elsewhere").iterdir())


class Place:
    """A path that is no `Path`."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __fspath__(self) -> str:
        return self._path


@pytest.mark.parametrize("form", [str, Place, Path])
def test_a_path_may_be_of_any_type(site: Site, tmp_path: Path, form: Callable[[Path], AnyPath]) -> None:
    bundle = form(write_bundle(tmp_path / "b.tar"))
    (tmp_path / "config.ini").write_text("")
    settings = load_settings(config=form(tmp_path / "config.ini"))
    assert check_bundle(bundle, settings=settings).problems == []
    (job,) = queue_files(JobKind.BUNDLE, [bundle], settings=settings)
    run_queue(settings=settings)
    assert ingest_bundle(bundle, settings=settings).job_id == job.job_id
    (outcome,) = ingest_files(JobKind.BUNDLE, [bundle], settings=settings)
    assert (outcome.name, outcome.job) == (os.fspath(bundle), find_job(job.job_id))
    (tmp_path / "m.json").write_bytes(b"[]")
    with pytest.raises(IngestError):
        move_files(form(tmp_path / "m.json"), settings=settings)
    save_receipt(job.job_id, form(tmp_path / "receipt.json"), settings=settings)
    assert list(verify_receipt(form(tmp_path / "receipt.json"), settings=settings)) == []
    assert restore_bundle(job.job_id, form(tmp_path / "again.tar"), settings=settings) == len(FILES)
    assert restore_folder(job.job_id, form(tmp_path / "again"), settings=settings) == len(FILES)
    (copies,) = find_copies([form(tmp_path / "again" / "data" / "a.txt")], settings=settings)
    assert copies.is_stored
    assert back_up(form(tmp_path / "copy"), settings=settings)[0].parent == tmp_path / "copy"


@pytest.mark.parametrize("path", ["b.tar", Path("b.tar")])
def test_a_single_path_is_not_taken_for_its_letters(site: Site, path: str | Path) -> None:
    several: Any = path
    for call in (
        lambda: ingest_files(JobKind.BUNDLE, several),
        lambda: list(queue_files(JobKind.BUNDLE, several)),
        lambda: list(check_bundles(several)),
        lambda: list(find_copies(several)),
        lambda: list(upload(several)),
        lambda: pack_bundle(several, "c.tar"),
    ):
        with pytest.raises(TypeError, match="takes several paths"):
            call()


def test_jobs_are_listed_to_the_first_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are read at once."""
    monkeypatch.setattr("ingest_cli.api.jobs.JOBS_AT_ONCE", 2)
    with open_store(site.settings) as store:
        for number in range(1, 8):
            name = f"/drop/{number % 2}.tar"
            store.submit(number, kind=JobKind.BUNDLE, source=name, fingerprint="", user="ada", holder=None)
    assert [job.job_id for job in list_jobs()] == [7, 6, 5, 4, 3, 2, 1]
    odd = JobFilter(source="1.tar", statuses=frozenset({JobStatus.WAITING}))
    assert [job.job_id for job in list_jobs(odd)] == [7, 5, 3, 1]
    assert {status: count for status, count in count_jobs(odd).items() if count} == {JobStatus.WAITING: 4}
    assert next(list_jobs(JobFilter(user="bob")), None) is None


def test_one_that_cannot_be_queued_stops_no_other(site: Site, tmp_path: Path) -> None:
    good, absent = write_bundle(tmp_path / "b.tar"), tmp_path / "absent.tar"
    refused, queued = queue_each(JobKind.BUNDLE, [absent, good])
    assert (refused.name, refused.job, str(refused.error)[:11]) == (str(absent), None, "cannot read")
    assert (queued.job, queued.error) == (find_job(1), None)
    with pytest.raises(IngestError, match="cannot read"):
        list(queue_files(JobKind.BUNDLE, [absent, good]))


def test_a_bundle_is_packed(site: Site, tmp_path: Path) -> None:
    """Of a folder that says of whom it is; into an open file too."""
    folder = tmp_path / "run7"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"1")
    (folder / ".ingest.json").write_text('{"submitter": 1, "project": "p", "instrument": 2}')
    packed = pack_bundle([str(folder)], str(tmp_path / "run7.tar"))
    assert (packed.files, packed.bytes) == (1, 1)
    ingest_bundle(tmp_path / "run7.tar")
    assert site.contents() == {"data/a.txt": b"1"}
    with (tmp_path / "more.tar").open("wb") as file:
        pack_bundle([folder / "a.txt"], file, submitter=1, project="p", instrument=2, keys=[("k", "v")])
    assert check_bundle(tmp_path / "more.tar").problems == []
    with pytest.raises(IngestError, match="project"):
        pack_bundle([folder / "a.txt"], tmp_path / "none.tar", submitter=1)
    with pytest.raises(IngestError, match="already exists"):
        pack_bundle([folder], tmp_path / "run7.tar")


def test_what_is_old_is_pruned(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    ingest_bundle(bundle)
    bundle.unlink()
    assert prune(timedelta(days=1)).jobs == []
    assert [job.job_id for job in prune(timedelta(0)).jobs] == [1]
    assert [job.job_id for job in list_jobs()] == [1], "it was only looked for"
    prune(timedelta(0), remove=True)
    assert list(list_jobs()) == []


def test_what_a_job_needs_is_diagnosed(site: Site) -> None:
    assert all(finding.ok for finding in diagnose())


def test_every_name_is_there_and_no_other_is_promised() -> None:
    assert all(callable(getattr(ingest_cli, name)) for name in ingest_cli.__all__)
    assert all(getattr(api, name) is not None for name in api.__all__)
    for module in (ingest_cli, api):
        with pytest.raises(AttributeError):
            module.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, ingest_cli; print({'sqlite_utils', 'requests', 'urllib3', 'rich', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_example_of_the_readme(environment: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"^## From Python\n.*?^```python\n(.*?)^```", readme, re.M | re.S)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", found[1]], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "job 1: ingest metadata\n"), done.stderr


def test_a_document_is_moved(site: Site, tmp_path: Path) -> None:
    import json

    source = tmp_path / "a.txt"
    source.write_bytes(FILES["data/a.txt"])
    records = document_for({"data/a.txt": FILES["data/a.txt"]})
    records[-1]["source"] = str(source)
    (tmp_path / "m.json").write_text(json.dumps(records))
    assert move_files(tmp_path / "m.json").is_done
    assert not source.exists()
