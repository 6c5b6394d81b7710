"""How much was done: jobs that came to their end, files and bytes, day by day and for whom."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Activity:
    """How many jobs are ``complete``, duplicates too, how many failed, and how much those that are complete hold."""

    complete: int = 0
    failed: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(kw_only=True, slots=True)
class Share(Activity):
    """What was done for one ``user`` on one ``day``, which is written as in 2026-11-28."""

    day: str
    user: str


def by_day(shares: Iterable[Share]) -> dict[str, Activity]:
    """What was done on each day on which anything was, the first one first."""
    return dict(sorted(_summed(shares, lambda share: share.day).items()))


def by_user(shares: Iterable[Share]) -> dict[str, Activity]:
    """What was done for each user, most bytes first."""
    return dict(sorted(_summed(shares, lambda share: share.user).items(), key=lambda item: -item[1].bytes))


def _summed(shares: Iterable[Share], key: Callable[[Share], str]) -> dict[str, Activity]:
    sums: dict[str, Activity] = {}
    for share in shares:
        done = sums.setdefault(key(share), Activity())
        done.complete += share.complete
        done.failed += share.failed
        done.files += share.files
        done.bytes += share.bytes
    return sums
