"""Why jobs failed, grouped as people do: what differs only in names, numbers, hashes or paths is one reason."""

import re
from dataclasses import dataclass

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
    """The job of this ``name`` failed for this ``reason``: in the words of the first line of its error."""

    job_id: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reason:
    """What several ``jobs`` failed for, at which stage, and how many of them on each day and of each user. The
    ``job_ids`` are the newest of them."""

    stage: str
    reason: str
    jobs: int
    job_ids: list[int]
    days: dict[str, int]
    users: dict[str, int]


def kind_of(failure: Failure) -> str:
    """The reason without what belongs to this job alone: each such value is a BLANK."""
    reason = failure.reason.replace(failure.name, _BLANK) if failure.name else failure.reason
    for values in (VALUES, SHORTENED, SEVERAL):
        reason = values.sub(_BLANK, reason)
    return reason.replace(_BLANK, BLANK)
