"""The released archive interface keeps what every archive promises."""

from collections.abc import Iterator

import pytest

from ingest_cli.services.base import Archive
from ingest_cli.services.pacifica.archive import PacificaArchive
from ingest_cli.settings import Endpoint

from ..contract.test_archive import ArchiveContract
from .services import PacificaServices

pytestmark = pytest.mark.pacifica


class TestReleasedArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, pacifica: PacificaServices) -> Iterator[Archive]:
        before = set(pacifica.archive.iterdir())
        archive = PacificaArchive(Endpoint(url=pacifica.url("archiveinterface")))
        yield archive
        archive.close()
        for path in set(pacifica.archive.iterdir()) - before:
            path.unlink()
