"""``ingest stats``."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from .command import command
from .options import Output, Site
from .output import say, write_json

if TYPE_CHECKING:
    from ..jobs.activity import Activity
    from ..jobs.reasons import Reason
    from ..jobs.store import JobStore

MOST_REASONS = 20
MOST_USERS = 10
MOST_DAYS = 30
# Of the jobs, days and users of a reason so many are named.
MOST_NAMED = 5
LABEL = 11


@command
def stats(site: Site, output: Output) -> None:
    """Count jobs, files and bytes, and the reasons for failures.

    Also show how much was done each day and for whom, how many seconds the jobs spent in each stage, and how many
    events were sent.
    """
    from ..jobs.store import open_store

    with open_store(site.settings, new=False) as store:
        tallies, seconds = store.tallies(), store.stage_seconds()
        reasons, number, failures = _why(store, None if output.json else MOST_REASONS)
        days, users = store.by_day(), store.by_user()
        events, oldest = store.outbox.tallies(), store.outbox.oldest_waiting()
    if output.json:
        answer = {
            "states": {
                state: dict(zip(("jobs", "files", "bytes"), row, strict=True)) for state, row in tallies.items()
            },
            "stages": seconds,
            "failures": [dict(zip(("stage", "reason", "jobs"), row, strict=True)) for row in failures],
            "events": {
                **{status.replace(" ", "_"): count for status, count in events.items()},
                "oldest_waiting": oldest,
            },
            "reasons": list(map(asdict, reasons)),
            "days": [{"day": day, **asdict(done)} for day, done in days.items()],
            "users": [{"user": user, **asdict(done)} for user, done in users.items()],
        }
        write_json(answer)
        return
    for part in (
        _states(tallies),
        _days(days),
        _users(users),
        _stages(seconds),
        _events({str(status): number for status, number in events.items()}, oldest),
        _reasons(reasons),
        _more(number - len(reasons), "reasons"),
    ):
        for line in part:
            say(line)


def _why(store: "JobStore", most: int | None) -> "tuple[list[Reason], int, list[tuple[str, str, int]]]":
    """At most so many reasons for failures, how many there are, and where all are told, their words.

    Those that are new are noted: where that is impossible now, as on a full disk, the other counts are told alone.
    """
    from ..errors import ResourceUnavailable
    from .output import warn

    try:
        return store.reasons(most), store.count_reasons(), store.failures() if most is None else []
    except ResourceUnavailable as error:
        warn(f"why jobs failed is not told: {error}")
        return [], 0, []


def _states(tallies: dict[str, tuple[int, int, int]]) -> Iterator[str]:
    from rich.filesize import decimal

    rows = [(state, f"{jobs:,}", f"{files:,}", decimal(size)) for state, (jobs, files, size) in tallies.items()]
    return _table(("", "jobs", "files", "size"), rows)


def _days(days: "dict[str, Activity]") -> Iterator[str]:
    """How much was done on each of the last days, as many as there is room for."""
    from datetime import UTC, datetime, timedelta

    from rich.filesize import decimal

    from ..jobs.activity import Activity
    from .sparkline import sparkline

    if not days:
        return
    shown = max(1, min(MOST_DAYS, _width() - LABEL - len("  at most 999.9 MB")))
    today = datetime.now(UTC)
    last = [days.get(f"{today - timedelta(days=ago):%Y-%m-%d}", Activity()) for ago in reversed(range(shown))]
    jobs, sizes = [done.complete for done in last], [done.bytes for done in last]
    in_ascii = not (getattr(sys.stdout, "speaks", "") or "utf-8").lower().startswith("utf")
    yield ""
    yield f"complete on each of the last {shown} days"
    yield f"{'jobs':<{LABEL}}{sparkline(jobs, in_ascii=in_ascii)}  at most {max(jobs):,}"
    yield f"{'size':<{LABEL}}{sparkline(sizes, in_ascii=in_ascii)}  at most {decimal(max(sizes))}"


def _users(users: "dict[str, Activity]") -> Iterator[str]:
    from rich.filesize import decimal

    rows = [(user, f"{done.complete:,}", f"{done.failed:,}", decimal(done.bytes)) for user, done in users.items()]
    if rows:
        yield ""
        yield from _table(("user", "complete", "failed", "size"), rows[:MOST_USERS])
    yield from _more(len(rows) - MOST_USERS, "users")


def _stages(seconds: dict[str, float]) -> Iterator[str]:
    if seconds:
        yield ""
        rows = sorted(seconds.items(), key=lambda item: -item[1])
        yield from _table(("stage", "seconds"), [(stage, f"{spent:.1f}") for stage, spent in rows])


def _events(events: dict[str, int], oldest: str | None) -> Iterator[str]:
    if not any(events.values()):
        return
    yield ""
    yield f"{'events':<{LABEL}}{'number':>8}"
    for status, number in events.items():
        since = f"  since {oldest[:19]} UTC" if status == "waiting" and oldest is not None else ""
        yield f"{status:<{LABEL}}{number:>8,}{since}"


def _reasons(reasons: "list[Reason]") -> Iterator[str]:
    if not reasons:
        return
    yield ""
    yield f"{'failed':>8}  why"
    for reason in reasons:
        first, *more = _wrapped(f"{reason.stage}: {reason.reason}")
        yield f"{reason.jobs:>8,}  {first}"
        named = f"{'job' if reason.jobs == 1 else 'jobs'} {_some(map(str, reason.job_ids), reason.jobs)}"
        days = f"on {_some(_counted(sorted(reason.days.items(), reverse=True)), len(reason.days))}"
        users = f"by {_some(_counted(sorted(reason.users.items(), key=lambda item: -item[1])), len(reason.users))}"
        for line in (*more, *_wrapped(named), *_wrapped(f"{days}; {users}")):
            yield f"{'':>8}  {line}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of columns that are as wide as they must be, of which the first stands to the left."""
    from rich.cells import cell_len

    rows = [header, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    widths[0] = max(widths[0], LABEL - 2)
    for first, *others in rows:
        cells = [first + " " * (widths[0] - cell_len(first))]
        cells += [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join(cells)


def _counted(items: Iterable[tuple[str, int]]) -> Iterator[str]:
    return (f"{name} ({number:,})" for name, number in items)


def _some(names: Iterable[str], count: int) -> str:
    from itertools import islice

    shown = list(islice(names, MOST_NAMED))
    return ", ".join(shown) + (f", and {count - len(shown):,} more" if count > len(shown) else "")


def _more(number: int, what: str) -> Iterator[str]:
    if number > 0:
        yield f"and {number:,} more {what}: see --json"


def _wrapped(text: str) -> list[str]:
    """The text in lines that fit the terminal beside the numbers; where nobody looks on, as a line."""
    import textwrap

    if not _is_terminal():
        return [text]
    return textwrap.wrap(text, max(20, _width() - 11)) or [""]


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns if _is_terminal() else 100


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()
