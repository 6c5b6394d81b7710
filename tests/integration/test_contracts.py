"""The released services keep what every implementation of a port promises."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from ingest_cli.services.base import Archive, Catalog, Policy, UniqueId
from ingest_cli.services.pacifica.archive import PacificaArchive
from ingest_cli.services.pacifica.catalog import PacificaCatalog
from ingest_cli.services.pacifica.policy import PacificaPolicy
from ingest_cli.services.pacifica.uniqueid import PacificaUniqueId
from ingest_cli.settings import Endpoint

from ..contract.test_archive import ArchiveContract
from ..contract.test_catalog import CatalogContract
from ..contract.test_policy import PolicyContract
from ..contract.test_unique_id import UniqueIdContract
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
