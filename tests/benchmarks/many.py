"""Many small bundles: by one command, by a worker, from a drop folder, and sent to a server by eight clients."""

import http.client
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from ..support.bundles import write_bundle
from ..support.serving import Server
from .cases import KIB, Case, Measured, Turn, elapsed, ingest, own, ran

BUNDLES, FILES, UPLOADS, CLIENTS = 200, 10, 1000, 8


def cases(folder: Path) -> Iterator[Case]:
    bundles = [
        write_bundle(folder / f"{number}.tar", {f"data/{number}/{name}": os.urandom(KIB) for name in range(FILES)})
        for number in range(BUNDLES)
    ]
    # What anyone pays who wants each of them to be safe before the next.
    each = "; ".join(f"tar -xf {bundle} && sync -f ." for bundle in bundles)
    yardsticks: dict[str, Turn] = {"tar xf + sync, each": lambda place: ran([["sh", "-c", f"cd {place}; {each}"]])}
    yield Case(f"{BUNDLES} bundles of {FILES} files, one command", own("-q", *bundles), yardsticks, per=BUNDLES)
    yield Case(f"{BUNDLES} bundles of {FILES} files, queued, one worker", queued(bundles), yardsticks, per=BUNDLES)
    yield Case(f"{BUNDLES} bundles of {FILES} files, a drop folder", dropped(bundles), yardsticks, per=BUNDLES)
    yield Case(
        f"{UPLOADS} uploads by {CLIENTS} clients",
        lambda place: sent(place, bundles),
        {"write + fsync by as many threads": lambda place: written(place, bundles)},
        per=UPLOADS,
    )


def queued(bundles: list[Path]) -> Turn:
    def turn(place: Path) -> Measured:
        ran([ingest("--queue", "-q", *bundles)], XDG_DATA_HOME=place, HOME=place)
        return ran([ingest("worker", "--until-empty", "-q")], XDG_DATA_HOME=place, HOME=place)

    return turn


def dropped(bundles: list[Path]) -> Turn:
    def turn(place: Path) -> Measured:
        drop = place / "drop"
        drop.mkdir()
        for bundle in bundles:
            shutil.copy2(bundle, drop)
        # Else most of it would be the seconds for which files must hold still.
        return ran([ingest("watch", "--once", "--settle", "0", "-q", drop)], XDG_DATA_HOME=place, HOME=place)

    return turn


def sent(place: Path, bundles: list[Path]) -> Measured:
    """Until all are answered for, whoever runs their jobs meanwhile: with the same processors, and the same disk."""
    os.environ |= {"XDG_DATA_HOME": str(place), "HOME": str(place)}
    with Server(place, "--quiet") as server:

        def send(client: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            for number in range(client, UPLOADS, CLIENTS):
                body = bundles[number % len(bundles)].read_bytes()
                connection.request("POST", "/upload", body, {"Content-Type": "application/octet-stream"})
                answer = connection.getresponse()
                content = answer.read()
                assert answer.status == 200, content
            connection.close()

        return elapsed(lambda: by_all(send))


def written(place: Path, bundles: list[Path]) -> Measured:
    names = count()

    def write(client: int) -> None:
        for number in range(client, UPLOADS, CLIENTS):
            with (place / f"{next(names)}.tar").open("wb") as file:
                file.write(bundles[number % len(bundles)].read_bytes())
                file.flush()
                os.fsync(file.fileno())

    return elapsed(lambda: by_all(write))


def by_all(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(work, range(CLIENTS)))
