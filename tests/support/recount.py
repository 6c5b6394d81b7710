"""Counts of jobs, counted anew from the jobs themselves."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ingest_cli.jobs.activity import Activity
from ingest_cli.jobs.filter import FAILED
from ingest_cli.jobs.job import Job, JobState, JobStatus
from ingest_cli.jobs.reasons import Failure, Reason, kind_of
from ingest_cli.jobs.store import JobStore

TALLIES = {
    **dict.fromkeys([JobStatus.WAITING, JobStatus.DEFERRED, JobStatus.INTERRUPTED], "waiting"),
    **dict.fromkeys([JobStatus.RUNNING, JobStatus.UNDOING], "running"),
    **dict.fromkeys([JobStatus.COMPLETE, JobStatus.DUPLICATE], "complete"),
    **dict.fromkeys([JobStatus.FAILED, JobStatus.HELD], "failed"),
    **dict.fromkeys([JobStatus.DISCARDED, JobStatus.SUPERSEDED], "discarded"),
}


def told(store: JobStore) -> dict[str, Any]:
    """What the store says."""
    return {
        "count": store.count(),
        "unfinished": store.count_unfinished(),
        "tally": store.tally(),
        "tallies": store.tallies(),
        "days": store.by_day(),
        "users": store.by_user(),
        "failures": store.failures(),
        "reasons": store.reasons(),
    }


def recounted(jobs: Iterable[Job]) -> dict[str, Any]:
    """What the store should say."""
    jobs = list(jobs)
    statuses = Counter(job.status for job in jobs)
    tallies = dict.fromkeys(TALLIES.values(), (0, 0, 0))
    for job in jobs:
        name = TALLIES[job.status]
        count, files, size = tallies[name]
        tallies[name] = (count + 1, files + job.files, size + job.bytes)
    lines = Counter((job.task, _first_line(job)) for job in jobs if job.status in FAILED)
    return {
        "count": len(jobs),
        "unfinished": sum(job.state in (JobState.QUEUED, JobState.RUNNING, JobState.UNDOING) for job in jobs),
        "tally": {status: statuses[status] for status in JobStatus},
        "tallies": tallies,
        "days": _activity((job.updated[:10], job) for job in jobs),
        "users": _activity((job.user, job) for job in jobs),
        "failures": sorted(((*line, count) for line, count in lines.items()), key=lambda row: (-row[2], *row[:2])),
        "reasons": _reasons(jobs),
    }


def _activity(keys: Iterable[tuple[str, Job]]) -> dict[str, Activity]:
    found: dict[str, Activity] = {}
    for key, job in keys:
        if job.is_done or job.status in FAILED:
            done = found.setdefault(key, Activity())
            done.complete += job.is_done
            done.failed += not job.is_done
            done.files += job.files * (job.state is JobState.COMPLETE)
            done.bytes += job.bytes * (job.state is JobState.COMPLETE)
    return found


def _reasons(jobs: list[Job]) -> list[Reason]:
    found: dict[tuple[str, str], list[Job]] = {}
    for job in sorted(jobs, key=lambda job: -job.job_id):
        if job.status in FAILED:
            kind = kind_of(Failure(job.job_id, job.name, _first_line(job)))
            found.setdefault((job.task, kind), []).append(job)
    reasons = []
    for (stage, kind), alike in found.items():
        words = {_first_line(job) for job in alike}
        days, users = Counter(job.updated[:10] for job in alike), Counter(job.user for job in alike)
        text = words.pop() if len(words) == 1 else kind
        reasons.append(Reason(stage, text, len(alike), [job.job_id for job in alike], dict(days), dict(users)))
    return sorted(reasons, key=lambda reason: -reason.jobs)


def _first_line(job: Job) -> str:
    return job.exception.partition("\n")[0]
