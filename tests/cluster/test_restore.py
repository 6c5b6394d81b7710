"""A database that is brought back to a moment, and an archive that is not."""

import json
import re
from pathlib import Path

import pytest

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.object_stores import ObjectServer
from ..support.restoring import restorable_postgres

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


def test_a_database_that_was_brought_back_gives_out_nothing_again(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strict_storage: ObjectServer,
    bucket: str,
) -> None:
    early, waits, late, new = (
        write_bundle(tmp_path / f"{name}.tar", {f"data/{name}": name.encode()})
        for name in ("early", "waits", "late", "new")
    )
    with restorable_postgres(command("deploy", "cluster", "ingest-postgresql.conf").stdout) as server:
        use(server.new_database().text, monkeypatch)
        server.back_up()
        assert command(early).returncode == 0
        assert command("--queue", waits).returncode == 0
        moment = server.moment()
        assert command("worker", "--until-empty").returncode == 0
        lost = json.loads(command(late, "--json").stdout.splitlines()[-1])["job_id"]
        stored = strict_storage.keys(bucket, f"{PREFIX}/")
        server.restore(moment)

        assert command("state", lost).returncode != 0
        orphans = orphaned(command, bucket)
        assert len(orphans) == 2
        skipped = command("skip-ids", "--json")
        assert skipped.returncode == 0, skipped.stderr
        for words in ((new,), ("worker", "--until-empty"), (late,)):
            done = command(*words)
            assert done.returncode == 0, done.stderr
        # What clients know by its id is not another one now.
        assert command("state", lost).returncode != 0
        assert orphaned(command, bucket) == orphans
        assert {*stored} < {*strict_storage.keys(bucket, f"{PREFIX}/")}
        for key in orphans:
            strict_storage.store(bucket).delete(key)
        assert command("verify", "--all").returncode == 0


def orphaned(command: Command, bucket: str) -> list[str]:
    """The keys of the objects that are said to be orphans, where all else is said to be sound."""
    told = command("verify", "--all").stdout
    assert re.sub(r"^s3://\S+: orphaned\n", "", told, flags=re.MULTILINE) == ""
    return re.findall(rf"^s3://{bucket}/(\S+): orphaned$", told, re.MULTILINE)
