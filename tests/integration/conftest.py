"""The real services, started once for all tests that need them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .released import Released
from .services import PacificaServices


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PacificaServices]:
    home = os.environ.get("INGEST_TEST_PACIFICA", "")
    if not home:
        pytest.skip("INGEST_TEST_PACIFICA names no folder with the Pacifica services")
    services = PacificaServices(Path(home), tmp_path_factory.mktemp("pacifica"))
    try:
        services.start_all()
        yield services
    finally:
        services.stop_all()


@pytest.fixture
def pacifica(services: PacificaServices, monkeypatch: pytest.MonkeyPatch) -> PacificaServices:
    for variable, value in services.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("INGEST_DEFAULT_USER", "dmlb2001")
    return services


@pytest.fixture
def released(pacifica: PacificaServices, environment: Path) -> Released:
    home = Path(os.environ["INGEST_TEST_PACIFICA"]) / "suites"
    if not (home / "complete").exists():
        pytest.skip("the sources of the released packages are not installed; see .ci/pacifica")
    return Released(home, pacifica, environment)
