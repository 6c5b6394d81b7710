"""Why jobs failed, grouped as people do: what differs only in names, numbers, hashes or paths is one reason."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

BLANK = "..."
# Meanwhile it is one that no message holds.
_BLANK = "\0"
# Of a reason so many jobs are named, the newest.
MOST_JOBS = 100
# What stands for a value in a message. The first that fits counts.
VALUES = re.compile(
    r"""
      (?<![\w'])b?'(?:[^'\\]|\\.)*'(?!\w)                   # quoted, as repr has it
    | (?<![\w"])b?"(?:[^"\\]|\\.)*"(?!\w)
    | \b[a-z][a-z+]+://[^\s,;]+(?<![:.)])                   # an address
    | (?<![\w./])~?/[^\s:,;]+(?:\s\([^)]*\))?(?<![.)])      # an absolute path
    | \b(?:md5|sha\d+|blake\d\w?)\b                         # the type of a hash, then a hash
    | \b(?=[a-f]*\d)[0-9a-f]{7,}(?:-[0-9a-f]{4,})*\b
    | (?<![\w-])-?\d\w*(?:[-.,:+]\w+)*(?:\s(?:[kMGTPE]i?B|bytes?)\b)?   # a number, a size, a time
    """,
    re.VERBOSE,
)
# Of a long value both ends are quoted, and how long it is; of many values some, and how many more there are.
SHORTENED = re.compile(rf"{_BLANK}\.\.\.(?:{_BLANK})?(?: \({_BLANK} (?:character|byte)s?\))?")
SEVERAL = re.compile(rf"{_BLANK}(?:(?:,? and|,)? {_BLANK}(?: more\b)?)+")


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed: at which ``stage``, for which ``reason``, whose it was, and on which ``day``."""

    job_id: int
    stage: str
    reason: str
    name: str
    user: str
    day: str


@dataclass(slots=True)
class Reason:
    """What several jobs failed for. The ``job_ids`` are the newest of them."""

    stage: str
    reason: str
    jobs: int = 0
    job_ids: list[int] = field(default_factory=list)
    days: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)

    def add(self, failure: Failure) -> None:
        """Count one more job, which is older than those before."""
        if failure.reason != self.reason:
            self.reason = kind_of(failure)
        self.jobs += 1
        if len(self.job_ids) < MOST_JOBS:
            self.job_ids.append(failure.job_id)
        self.days[failure.day] = self.days.get(failure.day, 0) + 1
        self.users[failure.user] = self.users.get(failure.user, 0) + 1


def grouped(failures: Iterable[Failure]) -> list[Reason]:
    """The reasons for these failures, newest first; that of most jobs first. One for which all jobs gave the same words
    is told in these, of others what they have in common."""
    found: dict[tuple[str, str], Reason] = {}
    for failure in failures:
        key = failure.stage, kind_of(failure)
        found.setdefault(key, Reason(failure.stage, failure.reason)).add(failure)
    return sorted(found.values(), key=lambda reason: -reason.jobs)


def kind_of(failure: Failure) -> str:
    """The reason without what belongs to this job alone: each such value is a BLANK."""
    reason = failure.reason.replace(failure.name, _BLANK) if failure.name else failure.reason
    for values in (VALUES, SHORTENED, SEVERAL):
        reason = values.sub(_BLANK, reason)
    return reason.replace(_BLANK, BLANK)
