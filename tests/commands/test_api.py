"""The few names that a script needs, as the README uses them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ingest_cli
from ingest_cli import (
    IngestError,
    check_bundle,
    find_job,
    ingest_bundle,
    load_settings,
    move_files,
    restore_bundle,
    verify_job,
)

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


def test_every_name_is_there_and_no_other_is_promised() -> None:
    assert all(callable(getattr(ingest_cli, name)) for name in ingest_cli.__all__)
    with pytest.raises(AttributeError):
        ingest_cli.nonsense  # noqa: B018


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
