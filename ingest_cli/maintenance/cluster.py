"""Checks what several hosts share: the database, the clocks, and each other."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from .. import __version__
from ..errors import ResourceUnavailable, StoreError
from ..jobs.attendance import patience_of
from ..jobs.places import host_of, workers_of
from ..jobs.postgres_attendance import FORGOTTEN_AFTER
from ..jobs.postgres_connections import PostgresConnections, usual_for
from ..jobs.postgres_database import PostgresDatabase, version_of
from ..jobs.postgres_migrations import MIGRATIONS
from ..jobs.sightings import Member, Sightings
from ..jobs.store import open_store
from ..settings import PostgresUrl, Settings
from ..text import counted, duration, listed

# What a clock may be wrong by before it misleads people.
MOST_AHEAD = 60.0
# Beyond that a restart of all workers may be refused.
FULL = 0.8
LISTEN_SECONDS = 2.0
CHANNEL = "ingest_doctor"
CONNECTIONS = """
    SELECT current_setting('server_version'), count(*),
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::double precision"


def check_database(url: PostgresUrl) -> str:
    """The database: its version, its tables, and whether it has room for more connections."""
    pool = PostgresConnections(url)
    applied = version_of(pool, "job store")
    version, used, most = _row(pool, CONNECTIONS)
    said = f"{url}: PostgreSQL {version}, {used} of {most} connections in use"
    if used > FULL * most:
        raise ResourceUnavailable(f"{said}: workers that start may find none")
    return f"{said}; no job store yet" if applied is None else said


def outdated(url: PostgresUrl) -> str:
    """What is to be said of tables that an older version left, which the first command to use them changes for all
    hosts; empty where there are none such."""
    applied = version_of(PostgresConnections(url), "job store")
    if applied is None or applied >= len(MIGRATIONS):
        return ""
    return f"{url}: of version {applied}, which the next command, worker or server brings to {len(MIGRATIONS)}"


def check_listening(settings: Settings, url: PostgresUrl) -> str:
    """Whether the database can wake workers."""
    if not settings.cluster.listen:
        return "workers poll, and are not woken by the database"
    if _is_woken(url):
        return "workers are woken by the database"
    raise StoreError(f"LISTEN does not get through to {url}: does PgBouncer pool transactions?")


def check_clock(url: PostgresUrl) -> str:
    """By how much this host's clock differs from the database's."""
    before = time.time()
    (theirs,) = _row(PostgresConnections(url), CLOCK)
    ahead = (before + time.time()) / 2 - theirs
    said = f"this host's clock is {_apart(ahead)} the database's"
    if abs(ahead) > MOST_AHEAD:
        raise StoreError(said)
    return said


def check_hosts(settings: Settings, url: PostgresUrl) -> Iterator[tuple[str, str, str]]:
    """What is there of each host and of each queue: the name of the check, what was found, and what to do about it, if
    something is wrong."""
    if version_of(PostgresConnections(url), "job store") != len(MIGRATIONS):
        return
    with open_store(settings, new=False) as store:
        members = Sightings(patience_of(settings.timings)).watch(store)
        queued = store.queued()
    if not members:
        yield "host", "none: no worker, server or watcher runs", ""
    for host in sorted({member.host for member in members}):
        yield "host", *_host(host, [member for member in members if member.host == host])
    workers = Counter(member.host for member in members if member.is_alive and member.is_worker)
    for queue, waiting in queued.items():
        yield "queue", *_queue(queue, waiting, workers)


def _queue(queue: str, waiting: int, workers: Mapping[str, int]) -> tuple[str, str]:
    """What waits in a queue, and what is wrong with that where no host has workers for it."""
    host = host_of(queue)
    said = f"{queue}: {counted(waiting, 'job')} waiting"
    if workers_of(queue, workers):
        return said, ""
    where = f"on {host}" if host else "on any host"
    return f"{said}, and no worker runs {where}", f"start workers {where}"


def _host(host: str, members: list[Member]) -> tuple[str, str]:
    present = [member.presence for member in members if member.presence is not None]
    living = Counter(m.presence.role for m in members if m.presence is not None and m.is_alive)
    jobs = sum(len(member.jobs) for member in members)
    versions = sorted({presence.version for presence in present})
    ahead = max((presence.ahead for presence in present), key=abs, default=0.0)
    running = [counted(number, role) for role, number in sorted(living.items())] or ["nothing runs"]
    said = f"{host}: {', '.join(running)}, {counted(jobs, 'job')} at work"
    if versions and versions != [__version__]:
        said += f", version {listed(versions)}"
    if abs(ahead) > MOST_AHEAD:
        return said, f"its clock is {_apart(ahead)} the database's: set it"
    if len({member.process.boot for member in members if member.is_alive}) > 1:
        return (
            said,
            "several machines have this name, and take jobs whose files lie on another's disk: set [cluster] host",
        )
    dead = [member for member in members if not member.is_alive]
    if dead:
        return f"{said}, no sign of life of {counted(len(dead), 'process', 'processes')}{_since(dead)}", _advice(dead)
    return said, ""


def _since(dead: list[Member]) -> str:
    """For how long nothing was heard of them, where that is known."""
    told = [member.presence.told for member in dead if member.presence is not None]
    return f" for {duration(min(told))}" if told else ""


def _advice(dead: list[Member]) -> str:
    named = listed([str(member.process.pid) for member in dead])
    return (
        f"look after {named} there; others resume the jobs that they can read, and a host that is gone is forgotten"
        f" after {FORGOTTEN_AFTER.days} days"
    )


def _apart(ahead: float) -> str:
    return f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'}"


def _row(pool: PostgresConnections, query: str) -> tuple[Any, ...]:
    database = PostgresDatabase(pool)
    try:
        with database.reading() as connection:
            return tuple(connection.execute(query).fetchall()[0])
    finally:
        database.close()


def _is_woken(url: PostgresUrl) -> bool:
    """Whether one connection is told what another one notifies."""
    try:
        with (
            psycopg.connect(url.text, autocommit=True, **usual_for(url)) as hears,
            psycopg.connect(url.text, autocommit=True, **usual_for(url)) as tells,
        ):
            hears.execute(f"LISTEN {CHANNEL}")
            # A pooler that gives each transaction any session has none left behind to be told.
            tells.execute(f"NOTIFY {CHANNEL}")
            return any(True for _ in hears.notifies(timeout=LISTEN_SECONDS, stop_after=1))
    except psycopg.OperationalError as error:
        raise ResourceUnavailable(f"{url} cannot be reached: {error}") from error
