"""The released services keep what every implementation of a port promises."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings

from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import IngestError
from ingest_cli.services.base import Archive, Catalog, Policy, UniqueId
from ingest_cli.services.embedded.catalog import EmbeddedCatalog
from ingest_cli.services.pacifica.archive import PacificaArchive
from ingest_cli.services.pacifica.catalog import PacificaCatalog
from ingest_cli.services.pacifica.policy import PacificaPolicy
from ingest_cli.services.pacifica.uniqueid import PacificaUniqueId
from ingest_cli.settings import Endpoint

from ..contract.test_archive import ArchiveContract
from ..contract.test_catalog import CatalogContract
from ..contract.test_policy import PolicyContract
from ..contract.test_unique_id import UniqueIdContract
from ..support.documents import GOOD, PLACES, odd_documents
from .services import PacificaServices

pytestmark = pytest.mark.pacifica


class TestReleasedUniqueId(UniqueIdContract):
    @pytest.fixture
    def new(self, pacifica: PacificaServices) -> Callable[[], UniqueId]:
        return lambda: PacificaUniqueId(Endpoint(url=pacifica.url("uniqueid")))


class TestReleasedPolicy(PolicyContract):
    @pytest.fixture
    def policy(self, pacifica: PacificaServices) -> Iterator[Policy]:
        endpoint = Endpoint(url=pacifica.url("policy") + "/ingest")
        with closing(PacificaPolicy(endpoint, "X-Http-Authed-User")) as policy:
            yield policy


class TestReleasedArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, pacifica: PacificaServices) -> Iterator[Archive]:
        before = set(pacifica.archive.iterdir())
        with closing(PacificaArchive(Endpoint(url=pacifica.url("archiveinterface")))) as archive:
            yield archive
        for path in set(pacifica.archive.iterdir()) - before:
            path.unlink()


class TestReleasedCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, pacifica: PacificaServices) -> Iterator[Catalog]:
        with closing(PacificaCatalog(Endpoint(url=pacifica.url("metadata") + "/ingest"))) as catalog:
            yield catalog

    @pytest.fixture
    def new_ids(self, pacifica: PacificaServices) -> Iterator[Callable[[str, int], int]]:
        with closing(PacificaUniqueId(Endpoint(url=pacifica.url("uniqueid")))) as ids:
            yield lambda mode, count: ids.reserve("file" if mode == "file" else "upload_job", count)

    def test_what_passes_here_is_recorded_there_as_it_is_here(
        self, catalog: Catalog, new_ids: Callable[[str, int], int], tmp_path: Path
    ) -> None:
        taken = 0

        @given(odd_documents(JUDGED_HERE))
        @settings(max_examples=200, deadline=None)
        def holds(raw: bytes) -> None:
            nonlocal taken
            try:
                document = Document.parse(raw)
                for entry in document.files:
                    entry.require_usable_hash()
                catalog.check(document)
            except IngestError:
                return
            ids = new_ids("upload_job", 1), new_ids("file", len(document.files))
            for either in (catalog, embedded):
                either.record(document, *ids, fence=1)
            assert list(catalog.files(ids[0])) == list(embedded.files(ids[0]))
            assert described(catalog, ids[0]) == described(embedded, ids[0])
            taken += 1

        with closing(EmbeddedCatalog(tmp_path / "catalogue.sqlite3")) as embedded:
            holds()
        assert taken > 20


# What is known there alone: who and what there is, and which times can be read.
JUDGED_HERE = [
    (number, key)
    for number, key in PLACES
    if not GOOD[number]["destinationTable"].startswith("Transactions.") and key not in ("ctime", "mtime")
]


def described(catalog: Catalog, transaction_id: int) -> list[str]:
    return sorted(json.dumps(record, sort_keys=True) for record in catalog.metadata(transaction_id))
