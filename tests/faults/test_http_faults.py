"""A site that fails at any request, in any way: the next healthy run ends with one sound job."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingest_cli.errors import IngestError
from ingest_cli.jobs.job import JobState
from ingest_cli.services.pacifica import http
from ingest_cli.settings import load_settings

from ..support.bundles import FILES, write_bundle
from ..support.http_faults import FAULTS
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site

pytestmark = pytest.mark.sweep

REQUESTS = 3 + len(FILES) + 3  # ids, policy, the archive's welcome; files; one look, ids of files, the document


@pytest.fixture
def pacific(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("INGEST_SERVICE_TIMEOUT", "0.3")
    with PacificaSite() as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        site.settings = load_settings()
        yield server


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", range(REQUESTS))
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_any_request(
    site: Site, pacific: PacificaSite, tmp_path: Path, name: str, number: int, lasting: bool
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")

    def guard(handler: Handler) -> bool:
        at = len(pacific.requests) - 1
        return (at >= number if lasting else at == number) and FAULTS[name](handler)

    pacific.guard = guard
    with suppress(IngestError):
        site.ingest(bundle)
    pacific.guard = None
    for job in site.jobs():
        assert job.state is not JobState.FAILED or not pacific.transactions, (
            "what failed for good is not in the catalogue"
        )
    job = site.ingest(bundle)
    assert job.is_done
    records = [record for record in pacific.transactions[job.job_id] if record["destinationTable"] == "Files"]
    names = ["/".join(filter(None, ["data", record["subdir"], record["name"]])) for record in records]
    assert dict(zip(names, (pacific.files[record["_id"]] for record in records), strict=True)) == FILES
    assert len(pacific.transactions) == 1, "nothing twice"
    assert sorted(pacific.files) == sorted(record["_id"] for record in records), "no orphans"
    assert sum(job.is_done for job in site.jobs()) == 1
