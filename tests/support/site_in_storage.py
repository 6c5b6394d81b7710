"""A site whose archive is in storage that speaks S3, and what stands between the two."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from ingest_cli.settings import ObjectStore

from .command import Command
from .forks import Running
from .object_stores import Between, Decide, ObjectServer
from .site import Site
from .waiting import until

Setting = Callable[..., ObjectStore]


@contextmanager
def disturbed(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """What stands between the site and the storage, and does nothing yet."""
    with Between(server) as between, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between


def assert_stored(
    command: Command, site: Site, server: ObjectServer, place: ObjectStore, *files: dict[str, bytes]
) -> None:
    """The catalogue's files are in the archive, byte by byte, and nothing else is there."""
    archived = server.archived(place)
    rows = site.rows("Files")
    named = [("/".join(filter(None, ["data", row["subdir"], row["name"]])), archived[row["id"]]) for row in rows]
    assert sorted(named) == sorted((path, data) for bundle in files for path, data in bundle.items())
    assert set(archived) == {row["id"] for row in rows}
    verified = command("verify", "--all")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def killing(running: list[Running], number: int, then: str) -> Decide:
    """Kills what is running at its request of this number."""
    requests = count(1)

    def decide(_method: str, _target: str) -> str | None:
        if next(requests) != number:
            return None
        until(lambda: running)
        os.kill(running[0].pid, signal.SIGKILL)
        return then

    return decide
