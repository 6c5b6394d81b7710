"""What the past costs: a site with a million jobs beside one with few."""

import http.client
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from itertools import islice
from pathlib import Path

from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.store import JobStore
from ingest_cli.maintenance.prune import AT_ONCE, find_prunable
from ingest_cli.server.metrics import exposition
from ingest_cli.services.factory import unique_id
from ingest_cli.settings import Settings, Timings, load_settings

from ..support.bundles import write_bundle
from ..support.history import fill
from ..support.serving import Server
from ..support.site import file_of
from .cases import Case, Measured, Turn, elapsed, ingest, ran

FEW, MANY, WAITING = 10, 1_000_000, 100_000
CLAIMS, SCRAPES, PIECES, ROUNDS = 100, 100, 10, 5
BEFORE_COUNTS = 10
UPLOADS, CLIENTS, PAUSE = 100, 8, 0.1
# A name can match anywhere: all are looked at.
AIMS: dict[str, float | None] = {
    "state 7": 1.1,
    "state": 1.1,
    "state --failed": 1.1,
    "state --since 2d": 1.1,
    "state --user user7": 1.1,
    "state --source */run-77*": None,
    "stats": 1.3,
}


def cases(folder: Path) -> Iterator[Case]:
    few, many = site(folder / "few", FEW), site(folder / "many", MANY)
    for words, aim in AIMS.items():
        yield Case(words, asked(many, words), {f"with {FEW} jobs": asked(few, words)}, aim=aim)
    # Of few jobs there are few users and states.
    metrics = f"{SCRAPES} times the metrics, 50 ms each at most"
    yield beside(metrics, many, few, lambda store: [exposition(store) for _ in range(SCRAPES)], per=SCRAPES)
    prunable = site(folder / "prunable", (ROUNDS + 1) * PIECES * AT_ONCE)
    yield beside(f"pruning {PIECES * AT_ONCE:,} jobs", many, prunable, lambda store: prune(store, many))
    yield uploads(folder, many)
    waiting, others = (site(folder / name, 0, waiting=jobs) for name, jobs in (("waiting", WAITING), ("others", 1000)))
    yield beside(f"{CLAIMS} claims of {WAITING:,} jobs", waiting, others, claim, per=CLAIMS)
    yield Case("pruning the million to its end", asked(many, "prune --older-than 0d --yes"), {}, rounds=1, per=MANY)


def site(folder: Path, jobs: int, *, waiting: int = 0) -> Settings:
    """A site in the folder with so many jobs of the past, and so many that wait."""
    settings = load_settings(environment={"XDG_DATA_HOME": str(folder)})
    # As an older program did, which is quicker by far: it kept no counts.
    fill(file_of(settings), jobs, waiting=waiting, version=BEFORE_COUNTS)
    with SqliteJobStore(file_of(settings), Timings()) as store:
        store.reasons()
    with closing(unique_id(settings)) as ids:
        ids.reserve("upload_job", jobs + waiting + 1)
    return settings


def asked(settings: Settings, words: str) -> Turn:
    home = file_of(settings).parent.parent
    return lambda place: ran([ingest(*words.split())], XDG_DATA_HOME=home, HOME=place)


def beside(
    title: str, many: Settings, few: Settings, work: Callable[[JobStore], object], per: int | None = None
) -> Case:
    def turn(settings: Settings) -> Turn:
        def measured(_: Path) -> Measured:
            with SqliteJobStore(file_of(settings), Timings()) as store:
                return elapsed(lambda: work(store))

        return measured

    return Case(title, turn(many), {"with few jobs": turn(few)}, rounds=ROUNDS, per=per)


def claim(store: JobStore) -> None:
    for _ in range(CLAIMS):
        assert store.lease_next() is not None


def prune(store: JobStore, settings: Settings) -> None:
    for piece in islice(find_prunable(settings, store, timedelta(0)), PIECES):
        piece.remove(store)


def uploads(folder: Path, settings: Settings) -> Case:
    """Uploads that are accepted while somebody asks for metrics over and over, beside those while nobody does."""
    bundle = write_bundle(folder / "one.tar", {"data/a": b"a"}).read_bytes()

    def turn(place: Path, *, scraped: bool) -> Measured:
        os.environ["XDG_DATA_HOME"] = str(file_of(settings).parent.parent)
        with Server(place, "--quiet", "--max-waiting", MANY) as server, ThreadPoolExecutor(CLIENTS + 1) as clients:
            done = threading.Event()
            scraper = clients.submit(scrape, server.port, done) if scraped else None
            found = elapsed(lambda: list(clients.map(lambda _: send(server.port, bundle), range(UPLOADS))))
            done.set()
            assert scraper is None or scraper.result() > 0
            return found

    return Case(
        "uploads while metrics are asked for",
        lambda place: turn(place, scraped=True),
        {"while nobody asks": lambda place: turn(place, scraped=False)},
        aim=1.1,
        per=UPLOADS,
    )


def send(port: int, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/upload", body, {"Content-Type": "application/octet-stream"})
    assert connection.getresponse().status == 200
    connection.close()


def scrape(port: int, done: threading.Event) -> int:
    count = 0
    while not done.wait(PAUSE):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
        connection.close()
        count += 1
    return count
