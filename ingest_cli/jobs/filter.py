"""Which jobs a person asks for, and in which order."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from .job import JobKind, JobStatus

__all__ = [
    "ALL",
    "COMPLETE",
    "DEFERRED",
    "FAILED",
    "GROUPS",
    "RUNNING",
    "WAITING",
    "JobFilter",
    "JobOrder",
    "JobStatus",
]

# What people call by one word.
FAILED = frozenset({JobStatus.FAILED, JobStatus.HELD})
RUNNING = frozenset({JobStatus.RUNNING, JobStatus.UNDOING})
WAITING = frozenset({JobStatus.WAITING, JobStatus.INTERRUPTED})
DEFERRED = frozenset({JobStatus.DEFERRED})
COMPLETE = frozenset({JobStatus.COMPLETE, JobStatus.DUPLICATE})
GROUPS = {"failed": FAILED, "running": RUNNING, "waiting": WAITING, "deferred": DEFERRED, "complete": COMPLETE}


class JobOrder(StrEnum):
    """By what jobs are put in order."""

    JOB = "job"
    UPDATED = "updated"
    SIZE = "size"
    FILES = "files"
    NAME = "name"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """The jobs that have one of these ``statuses``, were last changed at ``since`` or later and before ``until``, have
    a name that the glob ``source`` matches, are the ``user``'s, and of this ``kind``. What is empty asks for nothing.

    A moment without a zone is of UTC.
    """

    statuses: frozenset[JobStatus] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    source: str = ""
    user: str = ""
    kind: JobKind | None = None


ALL = JobFilter()


def matches(glob: str, name: str) -> bool:
    """Whether the glob matches the name of a job: the whole of it, or the last part of its path."""
    return fnmatchcase(name, glob) or fnmatchcase(name.rstrip("/").rpartition("/")[2], glob)
