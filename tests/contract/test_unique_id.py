"""What every service that gives out ids promises: one suite, inherited for each."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ingest_cli.errors import IngestError
from ingest_cli.services.base import UniqueId
from ingest_cli.services.embedded.uniqueid import EmbeddedUniqueId
from ingest_cli.services.pacifica.uniqueid import PacificaUniqueId
from ingest_cli.settings import Endpoint, PostgresUrl

from ..support.pacifica_double import PacificaSite


class UniqueIdContract:
    """To be inherited, with a fixture ``new`` that makes one more client of the same ids."""

    @pytest.fixture
    def new(self) -> Callable[[], UniqueId]:
        raise NotImplementedError

    @pytest.fixture
    def connect(self, new: Callable[[], UniqueId]) -> Iterator[Callable[[], UniqueId]]:
        with ExitStack() as stack:
            yield lambda: stack.enter_context(closing(new()))

    @pytest.fixture
    def ids(self, connect: Callable[[], UniqueId]) -> UniqueId:
        return connect()

    def test_it_answers(self, ids: UniqueId) -> None:
        assert ids.ping()
        ids.reserve("file", 3)
        assert ids.ping()

    def test_no_id_is_given_out_twice(self, ids: UniqueId) -> None:
        reserved = [range(first, first + count) for count in (1, 3, 1000) if (first := ids.reserve("file", count))]
        assert len({file_id for some in reserved for file_id in some}) == 1004
        assert reserved == sorted(reserved, key=lambda some: some.start)

    def test_a_mode_has_ids_of_its_own(self, ids: UniqueId) -> None:
        first = ids.reserve("upload_job", 1)
        ids.reserve("file", 100)
        assert ids.reserve("upload_job", 1) == first + 1

    def test_another_client_gets_other_ids(self, connect: Callable[[], UniqueId]) -> None:
        first = connect().reserve("file", 10)
        assert connect().reserve("file", 1) >= first + 10

    def test_clients_that_ask_at_once_get_other_ids(self, connect: Callable[[], UniqueId]) -> None:
        def reserve_some(_: int) -> list[int]:
            ids = connect()
            return [ids.reserve("file", 2) for _ in range(5)]

        with ThreadPoolExecutor(2) as executor:
            firsts = [first for some in executor.map(reserve_some, range(2)) for first in some]
        assert len({file_id for first in firsts for file_id in (first, first + 1)}) == 20

    @pytest.mark.parametrize("count", [0, -1])
    def test_there_is_no_range_without_ids(self, ids: UniqueId, count: int) -> None:
        before = ids.reserve("file", 1)
        with pytest.raises(IngestError):
            ids.reserve("file", count)
        assert ids.reserve("file", 1) == before + 1


class OwnIdsContract(UniqueIdContract):
    """Of ids that are this program's own, in whatever database."""

    def test_ids_go_on_behind_those_of_others(self, ids: UniqueId, connect: Callable[[], UniqueId]) -> None:
        ids.pass_over("upload_job", 1000)
        assert connect().reserve("upload_job", 1) == 1001
        ids.pass_over("upload_job", 500)
        assert ids.reserve("upload_job", 2) == 1002
        ids.pass_over("upload_job", 1002)
        assert ids.reserve("upload_job", 1) == 1004
        assert ids.reserve("file", 1) == 1, "another mode has other ids"


class TestEmbedded(OwnIdsContract):
    @pytest.fixture
    def new(self, tmp_path: Path) -> Callable[[], UniqueId]:
        return lambda: EmbeddedUniqueId(tmp_path / "ids.sqlite3")


@pytest.mark.cluster
class TestPostgres(OwnIdsContract):
    @pytest.fixture
    def new(self, postgres: PostgresUrl) -> Callable[[], UniqueId]:
        from ingest_cli.jobs.postgres_connections import PostgresConnections
        from ingest_cli.services.postgres.uniqueid import PostgresUniqueId

        return lambda: PostgresUniqueId(PostgresConnections(postgres))


class TestPacifica(UniqueIdContract):
    @pytest.fixture
    def new(self, pacific: PacificaSite) -> Callable[[], UniqueId]:
        return lambda: PacificaUniqueId(Endpoint(url=pacific.url))
