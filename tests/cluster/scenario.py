"""Bundles that come in through three doors, while hosts die, freeze and lose their way, and what must be true after."""

import itertools
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from ingest_cli.errors import ExitCode
from ingest_cli.settings import ObjectStore

from ..support.bundles import members, write_bundle
from ..support.cluster import Cluster, Host, cluster
from ..support.command import Command
from ..support.links import LOOPBACK, Link
from ..support.loopback import lasting_port
from ..support.object_stores import BUSY, CUT, DAMAGED, FAILED, LOST, SLOWED, Between, ObjectServer, at_random
from ..support.postgres import PostgresServer
from ..support.proxying import is_there, sharing_out

EAST, WEST, SOUTH = "east", "west", "south"
ARCHIVE, SPOOL, TOKEN = "archive", "spool", "t0ken"
MIB = 1 << 20
SENDERS, ANSWER_SECONDS, PATIENT_SECONDS, PAUSE = 4, 15.0, 5, 0.2
TIMINGS = {"heartbeat": 0.5, "stale": 5.0, "first_backoff": 1.0, "longest_backoff": 5.0}
FAULTS = (FAILED, SLOWED, CUT, LOST, DAMAGED, BUSY)
AT_WORK, ENDED = "('queued', 'running', 'undoing')", ("complete", "duplicate")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many bundles come in, and how many of those that are sent come in pieces: by a client that waits a minute
    where it is told to. For how many seconds a host is frozen, one is cut off from all, one from the database and
    another from the storage, and the database is away. How many requests of a hundred fail at the storage, or lose
    their answer; of fewer than how many bytes files are packed; and when patience ends."""

    bundles: int
    frozen: float
    cut: float
    apart: float
    away: tuple[float, float]
    failing: float = 5.0
    in_pieces: int = 0
    pack_below: int = 0
    seed: int = 1
    patience: float = 120.0
    timings: Mapping[str, float] = field(default_factory=dict)


SMALL = Plan(bundles=60, frozen=7.0, cut=7.0, apart=2.0, away=(1.0, 4.0), timings=TIMINGS, pack_below=4096)
FULL = Plan(
    bundles=300, frozen=45.0, cut=60.0, apart=25.0, away=(15.0, 60.0), in_pieces=20, patience=900.0, pack_below=4096
)


class Shared:
    """What the hosts share: a database, and storage that is not always in the mood."""

    def __init__(self, postgres: PostgresServer, objects: ObjectServer, plan: Plan, stack: ExitStack) -> None:
        self.postgres, self.objects, self.bucket = postgres, objects, objects.new_bucket()
        self.database = postgres.new_database().text.rpartition("/")[2]
        self._pack_below = plan.pack_below
        self.between = stack.enter_context(Between(objects, at_random(plan.failing, FAULTS, seed=plan.seed)))

    @property
    def services(self) -> dict[str, tuple[str, int]]:
        """Where they listen."""
        return {
            "database": (LOOPBACK, self.postgres.port),
            "storage": (LOOPBACK, int(self.between.server_address[1])),
        }

    def variables(self, links: Mapping[str, Link]) -> dict[str, str]:
        """What a host is told that reaches them by these links."""
        url = f"postgresql://postgres@{links['database']}/{self.database}"
        names = ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL")
        storage = {**self.objects.variables(self.bucket, ARCHIVE), "AWS_ENDPOINT_URL": f"http://{links['storage']}"}
        storage["ARCHIVEINTERFACE_PACK_BELOW"] = str(self._pack_below)
        spool = {"INGEST_SHARED_SPOOL": f"s3://{self.bucket}/{SPOOL}"}
        return {**dict.fromkeys(names, url), **storage, **spool, "INGEST_SERVER_TOKEN": TOKEN}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database answers, by a way that is never cut."""
        return self.postgres.execute(sql, self.database)

    def archived(self) -> dict[int, bytes]:
        """All that the archive has, by its id; a key that is none of its own makes this fail, and so does a second
        object of one file."""
        return self.objects.archived(ObjectStore(self.bucket, ARCHIVE))


class Senders:
    """Clients that send bundles to servers, each until one has taken it: no more than have been let go.

    Those ``in_pieces`` are sent by `ingest upload`, whose home is ``home``.
    """

    def __init__(
        self, urls: list[str], bundles: list[Path], in_pieces: set[Path], chance: random.Random, home: Path
    ) -> None:
        self.jobs: dict[Path, int] = {}
        home.mkdir()
        (home / "token").write_text(TOKEN)
        self._home, self._in_pieces = home, in_pieces
        self._urls, self._chance, self._over = urls, chance, threading.Event()
        self._let_go = threading.Semaphore(0)
        self._pool = ThreadPoolExecutor(SENDERS)
        self._futures: list[Future[None]] = [self._pool.submit(self._send, bundle) for bundle in bundles]

    def let_go(self, count: int) -> None:
        """Let so many more be sent."""
        for _ in range(count):
            self._let_go.release()

    @property
    def are_done(self) -> bool:
        """Whether all bundles have been taken."""
        return all(future.done() for future in self._futures)

    def close(self) -> None:
        """Send no more; raises what went wrong."""
        self._over.set()
        self.let_go(len(self._futures))
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def _send(self, bundle: Path) -> None:
        self._let_go.acquire()
        first = self._chance.randrange(len(self._urls))
        for url in itertools.islice(itertools.cycle(self._urls), first, None):
            if self._over.is_set():
                return
            if self._is_taken_in_pieces(url, bundle) if bundle in self._in_pieces else self._is_taken(url, bundle):
                return
            self._over.wait(PAUSE)

    def _is_taken(self, url: str, bundle: Path) -> bool:
        headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {TOKEN}"}
        try:
            with bundle.open("rb") as body:
                answer = requests.post(f"{url}/upload", data=body, headers=headers, timeout=ANSWER_SECONDS)
        except requests.RequestException:
            return False
        if answer.status_code != 200:
            assert answer.status_code >= 500 or answer.status_code == 429, answer.text
            return False
        self.jobs[bundle] = int(answer.json()["job_id"])
        return True

    def _is_taken_in_pieces(self, url: str, bundle: Path) -> bool:
        words = ("--token-file", self._home / "token", "--no-wait", "--json", "--retry-for", PATIENT_SECONDS, bundle)
        environment = {**os.environ, "HOME": str(self._home), "XDG_DATA_HOME": str(self._home / "data")}
        done = subprocess.run(
            Command.line("upload", "--to", url, *words), env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            assert done.returncode == ExitCode.UNREACHABLE, done.stderr
            return False
        self.jobs[bundle] = int(json.loads(done.stdout)["job_id"])
        return True


class Scenario:
    """Three hosts, each with a worker; those of ``ports`` with a server, the third with a drop folder. Clients know the
    ``doors``."""

    def __init__(
        self, folder: Path, plan: Plan, shared: Shared, hosts: Cluster, ports: dict[str, int], doors: list[str]
    ) -> None:
        self.plan, self.shared, self.hosts = plan, shared, hosts
        self.told: list[str] = []
        self._begun = time.monotonic()
        self._chance = random.Random(plan.seed)
        self._drop, done = hosts[SOUTH].folder / "drop", hosts[SOUTH].folder / "done"
        for made in (self._drop, done):
            made.mkdir()
        bundles = list(_bundles(folder / "bundles", plan.bundles, self._chance))
        self.sent, self.dropped = bundles[::3] + bundles[1::3], bundles[2::3]
        self._waiting = list(self.dropped)
        for place in hosts.hosts.values():
            place.timings = dict(plan.timings)
            place.start("worker", "--json")
        for name, port in ports.items():
            hosts[name].start("serve", "--host", hosts[name].address, "--port", port)
        hosts[SOUTH].start("watch", "--settle", 0.3, "--done", done, self._drop)
        in_pieces = set(self._chance.sample(self.sent, plan.in_pieces))
        self._senders = Senders(doors, self.sent, in_pieces, self._chance, folder / "client")

    def play(self) -> None:
        """All that goes wrong, each in the midst of jobs; then everything is mended and waited for."""
        postgres = self.shared.postgres
        faults: list[tuple[str, Callable[[], None]]] = [
            ("a worker is killed", lambda: self.hosts[WEST].units[0].kill()),
            ("the database is away", lambda: self._database_away(postgres.stop, self.plan.away[0])),
            ("a host is frozen", self._frozen),
            ("a host loses its power", self._powerless),
            ("a host is cut off", self._cut_off),
            ("two hosts each lose one of the two", self._apart),
            ("a worker is killed again", lambda: self.hosts[SOUTH].units[0].kill()),
            ("the database loses its power", lambda: self._database_away(postgres.kill, self.plan.away[1])),
        ]
        try:
            self._until(lambda: self.shared.rows("SELECT to_regclass('jobs')")[0][0])
            for number, (name, happens) in enumerate(faults):
                self._let_in(number, len(faults))
                self._until_at_work()
                self._tell(name)
                happens()
            self._let_in(1, 1)
            self._tell("nothing fails any more but the storage")
            self._until(lambda: self._senders.are_done and self._is_drop_empty() and self._have_all_ended())
            self._tell("all has ended")
        finally:
            self._senders.close()

    def _let_in(self, number: int, portions: int) -> None:
        share = -(-len(self.sent) // portions)
        self._senders.let_go(share)
        for _ in range(-(-len(self.dropped) // portions)):
            if self._waiting:
                bundle = self._waiting.pop()
                partial = self._drop / f"{bundle.name}.part"
                partial.write_bytes(bundle.read_bytes())
                partial.rename(self._drop / bundle.name)

    def _database_away(self, end: Callable[[], None], seconds: float) -> None:
        end()
        self._hold(seconds)
        self.shared.postgres.start()

    def _frozen(self) -> None:
        place = self.hosts[SOUTH]
        place.freeze()
        self._hold(self.plan.frozen)
        place.thaw()

    def _powerless(self) -> None:
        """Neither the database nor the storage is told that it is gone."""
        place = self.hosts[EAST]
        place.cut()
        place.kill()
        self._hold(1.0, but=place)
        place.mend()

    def _cut_off(self) -> None:
        place = self.hosts[WEST]
        place.cut()
        self._hold(self.plan.cut)
        place.mend()

    def _apart(self) -> None:
        """Each is cut off from what the other still reaches."""
        for name, service in ((EAST, "database"), (SOUTH, "storage")):
            self.hosts[name].cut(service)
        self._hold(self.plan.apart)
        for name in (EAST, SOUTH):
            self.hosts[name].mend()

    def _hold(self, seconds: float, but: Host | None = None) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for place in self.hosts.hosts.values():
                if place is not but:
                    place.tend()
            time.sleep(PAUSE)

    def _until_at_work(self) -> None:
        self._until(lambda: self.shared.rows("SELECT 1 FROM jobs WHERE state = 'running'"))

    def _is_drop_empty(self) -> bool:
        return not any(self._drop.glob("*.tar"))

    def _have_all_ended(self) -> bool:
        return not self.shared.rows(f"SELECT 1 FROM jobs WHERE state IN {AT_WORK} LIMIT 1")

    def _until(self, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + self.plan.patience
        while not true():
            assert time.monotonic() < deadline, self._as_it_is()
            self.hosts.tend()
            time.sleep(PAUSE)

    def _as_it_is(self) -> str:
        jobs = self.shared.rows(f"SELECT job_id, state, source, exception, holder FROM jobs WHERE state IN {AT_WORK}")
        return "\n".join([*self.told, *map(str, jobs), f"{len(self._senders.jobs)} sent, {len(self._waiting)} to drop"])

    def _tell(self, what: str) -> None:
        states = Counter(dict(self.shared.rows("SELECT state, count(*) FROM jobs GROUP BY state")))
        ((used,),) = self.shared.rows("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ingest%'")
        took = time.monotonic() - self._begun
        self.told.append(f"{took:6.1f} s: {what}; jobs: {dict(states)}; connections: {used}")
        print(self.told[-1], flush=True)

    def assert_sound(self) -> None:
        """Every bundle is stored once and whole, and nothing else is there."""
        self._assert_no_job_is_lost()
        self._assert_the_archive_is_the_bundles()
        assert self.shared.objects.uploads(self.shared.bucket) == 0
        for place in self.hosts.hosts.values():
            assert [path for path in (place.folder / "data").rglob("spool/*") if path.is_file()] == []
            for unit in place.units:
                assert "Traceback" not in unit.log.read_text(errors="replace"), unit.log
        done = self.hosts[EAST].run("verify", "--all", "--quiet", patience=self.plan.patience)
        assert done.returncode == 0, done.stdout + done.stderr

    def _assert_no_job_is_lost(self) -> None:
        jobs = {job: (state, why) for job, state, why in self.shared.rows("SELECT job_id, state, exception FROM jobs")}
        assert set(self._senders.jobs) == set(self.sent)
        assert set(self._senders.jobs.values()) <= set(jobs), "what was answered is there"
        assert {job: state for job, state in jobs.items() if state[0] not in ENDED} == {}
        assert Counter(state for state, _ in jobs.values())["complete"] == self.plan.bundles

    def _assert_the_archive_is_the_bundles(self) -> None:
        expected = {name: content for path in (*self.sent, *self.dropped) for name, content in members(path).items()}
        del expected["metadata.txt"]
        stored = self.shared.rows("SELECT id, subdir, name FROM Files")
        archived = self.shared.archived()
        assert {number for number, _, _ in stored} == set(archived), "no orphans, nothing missing"
        assert len(stored) == len(expected), "nothing twice"
        found = {"/".join(filter(None, ["data", folder, name])): archived[number] for number, folder, name in stored}
        assert found == expected


def _bundles(folder: Path, count: int, chance: random.Random) -> Iterator[Path]:
    """Bundles of some small files, and now and then a large one, which is sent in parts."""
    folder.mkdir()
    for number in range(count):
        lengths = [chance.choice([0, 100, 4096, 60_000]) for _ in range(chance.randint(1, 5))]
        if number % 12 == 5:
            lengths.append(chance.randint(9 * MIB, 13 * MIB))
        files = {f"data/{number}/{at}": chance.randbytes(length) for at, length in enumerate(lengths)}
        yield write_bundle(folder / f"{number}.tar", files)


@contextmanager
def scenario(folder: Path, plan: Plan, postgres: PostgresServer, objects: ObjectServer) -> Iterator[Scenario]:
    """The hosts at work, for as long as the block lasts."""
    with ExitStack() as stack:
        shared = Shared(postgres, objects, plan, stack)
        hosts = stack.enter_context(cluster(folder, [EAST, WEST, SOUTH], shared.services, shared.variables))
        # Hosts without networks of their own have the same address.
        ports = {name: lasting_port() for name in (EAST, WEST)}
        servers = [f"{hosts[name].address}:{port}" for name, port in ports.items()]
        doors = [f"http://{server}" for server in servers]
        if is_there("nginx"):
            doors.append(stack.enter_context(sharing_out(servers)))
        yield Scenario(folder, plan, shared, hosts, ports, doors)
