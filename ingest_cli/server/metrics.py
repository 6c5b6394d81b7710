"""Metrics of the job store, in the text format of Prometheus."""

from collections.abc import Iterator

from ..jobs.store import JobStore

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(store: JobStore) -> str:
    """All metrics, as one text."""
    return "".join(f"{line}\n" for line in _lines(store))


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


def _family(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
