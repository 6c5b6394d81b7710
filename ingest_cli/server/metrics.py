"""Metrics of the job store, in the text format of Prometheus."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain

from ..jobs.places import workers_of
from ..jobs.queues import LOCAL, SHARED
from ..jobs.sightings import Member, Sightings
from ..jobs.store import JobStore

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(store: JobStore, sightings: Sightings | None = None) -> str:
    """All metrics, as one text. Where several hosts share the store, they are as earlier ``sightings`` and this one
    show them."""
    members = sightings.of(store) if sightings is not None and store.attendance is not None else []
    return "".join(f"{line}\n" for line in chain(_lines(store), _hosts(members), _queues(members, store)))


def _lines(store: JobStore) -> Iterator[str]:
    tallies = store.tallies()
    yield from _family("ingest_jobs", "gauge", "Jobs by state.")
    yield from (f'ingest_jobs{{state="{state}"}} {count}' for state, (count, _, _) in tallies.items())
    yield from _family("ingest_files", "gauge", "Files listed by jobs, by the job's state.")
    yield from (f'ingest_files{{state="{state}"}} {files}' for state, (_, files, _) in tallies.items())
    yield from _family("ingest_bytes", "gauge", "Bytes of the files listed by jobs, by the job's state.")
    yield from (f'ingest_bytes{{state="{state}"}} {size}' for state, (_, _, size) in tallies.items())
    yield from _family("ingest_stage_seconds_total", "counter", "Seconds that jobs spent in each stage.")
    for task, seconds in sorted(store.stage_seconds().items()):
        yield f'ingest_stage_seconds_total{{stage="{task}"}} {seconds:.6f}'
    yield from _family("ingest_events", "gauge", "Events for others, by what became of them.")
    for status, count in store.outbox.tallies().items():
        yield f'ingest_events{{status="{status}"}} {count}'
    yield from _family("ingest_events_oldest_waiting_seconds", "gauge", "For how long the oldest event waits.")
    yield f"ingest_events_oldest_waiting_seconds {_age(store.outbox.oldest_waiting()):.0f}"


def _hosts(members: list[Member]) -> Iterator[str]:
    if not members:
        return
    hosts = sorted({member.host for member in members})
    lives = ((m.host, m.presence.role) for m in members if m.presence is not None and m.is_alive is not False)
    yield from _family("ingest_host_processes", "gauge", "Processes that give signs of life, by host.")
    for (host, role), count in sorted(Counter(lives).items()):
        yield f'ingest_host_processes{{host="{_escaped(host)}",role="{role}"}} {count}'
    yield from _family("ingest_host_jobs", "gauge", "Jobs that are worked on, by host.")
    jobs = Counter(member.host for member in members for _ in member.jobs)
    yield from (f'ingest_host_jobs{{host="{_escaped(host)}"}} {jobs[host]}' for host in hosts)
    yield from _family("ingest_host_silent_seconds", "gauge", "For how long no process of a host gave a sign of life.")
    quiet = {host: min(member.quiet for member in members if member.host == host) for host in hosts}
    yield from (f'ingest_host_silent_seconds{{host="{_escaped(host)}"}} {quiet[host]:.1f}' for host in hosts)


def _queues(members: list[Member], store: JobStore) -> Iterator[str]:
    if store.attendance is None:
        return
    queued, workers = store.queued(), Counter(m.host for m in members if m.is_worker and m.is_alive is not False)
    names = sorted({*queued, *(f"{LOCAL}{host}" for host in workers), SHARED})
    yield from _family("ingest_queue_jobs", "gauge", "Jobs that wait in each queue.")
    yield from (f'ingest_queue_jobs{{queue="{_escaped(name)}"}} {queued.get(name, 0)}' for name in names)
    yield from _family("ingest_queue_workers", "gauge", "Workers that give signs of life and run jobs of the queue.")
    yield from (f'ingest_queue_workers{{queue="{_escaped(name)}"}} {workers_of(name, workers)}' for name in names)


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _age(since: str | None) -> float:
    if since is None:
        return 0.0
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(since).replace(tzinfo=UTC)).total_seconds())


def _family(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
