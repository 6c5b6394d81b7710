"""A database that is brought back to a moment, and an archive that is not: what `verify --all` says then."""

import re
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.object_stores import ObjectServer
from ..support.postgres import PostgresServer

pytestmark = pytest.mark.cluster
PREFIX = "archive"


@pytest.fixture
def bucket(strict_storage: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    bucket = strict_storage.new_bucket()
    for variable, text in strict_storage.variables(bucket, PREFIX).items():
        monkeypatch.setenv(variable, text)
    return bucket


def use(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, database)


def test_what_was_stored_after_the_moment_is_an_orphan_and_nothing_is_overwritten(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: PostgresServer,
    strict_storage: ObjectServer,
    bucket: str,
) -> None:
    first = postgres_server.new_database()
    use(first.text, monkeypatch)
    early, late = (
        write_bundle(tmp_path / f"{name}.tar", {f"data/{name}": name.encode()}) for name in ("early", "late")
    )
    assert command(early).returncode == 0
    moment = postgres_server.new_database(template=first.text.rpartition("/")[2])
    assert command(late).returncode == 0
    assert command("verify", "--all").returncode == 0
    stored = strict_storage.keys(bucket, f"{PREFIX}/")

    use(moment.text, monkeypatch)
    told = command("verify", "--all")
    assert told.returncode != 0
    (orphan,) = re.findall(rf"^s3://{bucket}/(\S+): orphaned$", told.stdout, re.MULTILINE)
    other = write_bundle(tmp_path / "other.tar", {"data/other": b"other"})
    refused = command(other)
    assert refused.returncode == ExitCode.FAILED, refused.stderr
    assert "belongs to another job" in refused.stderr
    assert strict_storage.keys(bucket, f"{PREFIX}/") == stored

    strict_storage.store(bucket).delete(orphan)
    for bundle in (other, late):
        done = command(bundle)
        assert done.returncode == 0, done.stderr
    assert command("verify", "--all").returncode == 0
