"""Reading ahead: who gives never waits for who takes."""

import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from ingest_cli.errors import ServiceUnavailable
from ingest_cli.jobs.spool import NoRoom
from ingest_cli.retrieval.ahead import Ahead

from ..support.waiting import PATIENCE, until

PIECES = [bytes([number]) * 300_000 for number in range(20)]


def test_all_is_taken_before_any_is_asked_for_again(tmp_path: Path) -> None:
    ended = threading.Event()

    def giving() -> Generator[bytes, None, None]:
        yield from PIECES
        ended.set()

    taking = Ahead(tmp_path / "spool", 0).read(giving())
    first = next(taking)
    assert ended.wait(PATIENCE)
    assert first + b"".join(taking) == b"".join(PIECES)
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_fails_fails_after_what_came_before(tmp_path: Path) -> None:
    def giving() -> Generator[bytes, None, None]:
        yield PIECES[1]
        raise ServiceUnavailable("gone")

    taking = Ahead(tmp_path, 0).read(giving())
    assert next(taking) == PIECES[1]
    with pytest.raises(ServiceUnavailable, match="gone"):
        next(taking)


def test_who_does_not_want_the_rest_ends_it(tmp_path: Path) -> None:
    given, going = [], threading.Event()

    def giving() -> Generator[bytes, None, None]:
        try:
            for number, piece in enumerate(PIECES):
                given.append(number)
                yield piece
                going.wait(PATIENCE)
        finally:
            given.append(-1)

    taking = Ahead(tmp_path, 0).read(giving())
    next(taking)
    taking.close()
    going.set()
    until(lambda: given[-1] == -1)
    assert len(given) < len(PIECES)


def test_the_reserve_of_the_disk_stays(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match="no room"):
        next(Ahead(tmp_path, 1 << 60).read(piece for piece in PIECES))
