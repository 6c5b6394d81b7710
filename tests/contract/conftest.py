"""A Pacifica site whose every answer comes at once."""

from collections.abc import Iterator

import pytest

from ingest_cli.services.pacifica import http

from ..support.pacifica_double import PacificaSite


@pytest.fixture
def pacific(monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    with PacificaSite() as server:
        yield server
