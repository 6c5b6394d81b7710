"""The options by which commands choose jobs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from ..jobs.filter import JobFilter

Failed = Annotated[bool, typer.Option("--failed", help="Only jobs that failed or are held.")]
Running = Annotated[bool, typer.Option("--running", help="Only jobs that are running or being rolled back.")]
Waiting = Annotated[bool, typer.Option("--waiting", help="Only jobs that wait for a run, interrupted ones too.")]
Deferred = Annotated[bool, typer.Option("--deferred", help="Only jobs that wait to be retried.")]
Complete = Annotated[bool, typer.Option("--complete", help="Only jobs that are complete, duplicates too.")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Only jobs last changed at this time or later: '2h', '3d', 'monday', '2026-11-28 14:30', in UTC.",
        metavar="TIME",
    ),
]
Until = Annotated[str | None, typer.Option("--until", help="Only jobs last changed before this time.", metavar="TIME")]
Source = Annotated[
    str | None,
    typer.Option("--source", help="Only jobs of bundles whose path or name matches, as '*.tar' does.", metavar="GLOB"),
]
OfUser = Annotated[str | None, typer.Option("--user", help="Only jobs of this user.", metavar="NAME")]


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """Which jobs a command is to do with: those of any state that is named, of which all else that is given is true."""

    failed: Failed = False
    running: Running = False
    waiting: Waiting = False
    deferred: Deferred = False
    complete: Complete = False
    since: Since = None
    until: Until = None
    source: Source = None
    user: OfUser = None

    @property
    def filter(self) -> "JobFilter":
        """The filter under these options; it is `ALL` where none is given. Raises SettingsError."""
        from ..jobs import filter as jobs

        chosen = [statuses for word, statuses in jobs.GROUPS.items() if getattr(self, word)]
        return jobs.JobFilter(
            statuses=frozenset[jobs.JobStatus]().union(*chosen),
            since=moment_of("--since", self.since),
            until=moment_of("--until", self.until),
            source=self.source or "",
            user=self.user or "",
        )


def moment_of(option: str, text: str | None) -> "datetime | None":
    """The moment that was given with the ``option``, in UTC. Raises SettingsError."""
    from datetime import UTC, datetime

    from ..errors import SettingsError
    from ..moments import moment

    if text is None:
        return None
    try:
        return moment(text, datetime.now(UTC))
    except SettingsError as error:
        raise SettingsError(f"{option} {error}") from error
