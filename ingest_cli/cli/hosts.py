"""``ingest hosts``."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .command import command
from .options import Output, Site

if TYPE_CHECKING:
    from ..jobs.sightings import Member
    from ..settings import Settings

HEADER = ("host", "what", "pid", "version", "since (UTC)", "jobs", "state")
# Of the jobs of a process so many are named.
MOST_NAMED = 5


@command
def hosts(site: Site, output: Output) -> None:
    """List hosts, what runs there, and the jobs at work.

    With a job store that several hosts share, it watches for some seconds which processes give a sign of life.
    """
    from .. import api
    from .output import say, write_json_list

    settings = site.settings
    members = api.list_hosts(settings=settings)
    patience = _patience(settings)
    if output.json:
        write_json_list(_fields(member, patience) for member in members)
        return
    for line in _lines(members, settings, patience):
        say(line)


def _patience(settings: "Settings") -> float:
    from ..jobs.sightings import MISSED

    return MISSED * settings.timings.presence


def _fields(member: "Member", patience: float) -> dict[str, object]:
    """A process as programs are told of it."""
    presence = member.presence
    return {
        "host": member.host,
        "role": presence.role if presence is not None else None,
        "pid": member.process.pid,
        "version": presence.version if presence is not None else None,
        "since": presence.since if presence is not None else None,
        "job_ids": list(member.jobs),
        "alive": member.is_alive(patience),
        "told_seconds": presence.told if presence is not None else None,
        "clock_seconds": presence.ahead if presence is not None else None,
    }


def _lines(members: "list[Member]", settings: "Settings", patience: float) -> Iterator[str]:
    from pathlib import Path

    if isinstance(settings.database, Path):
        from ..jobs.process import host_name

        yield f"one host, {host_name()}: its job store is the file {settings.database}"
        if not members:
            yield "no job is being worked on"
    elif not members:
        yield f"nothing runs: no process says in {settings.database} that it is there"
    if members:
        yield from _table([HEADER, *(_row(member, patience) for member in members)])


def _row(member: "Member", patience: float) -> tuple[str, ...]:
    presence = member.presence
    role, version, since = (
        (presence.role, presence.version, presence.since[:19]) if presence is not None else ("", "", "")
    )
    return (
        member.host,
        role or "ingest",
        str(member.process.pid),
        version,
        since,
        _jobs(member.jobs),
        _state(member, patience),
    )


def _jobs(job_ids: Sequence[int]) -> str:
    from ..text import listed

    return listed(list(map(str, job_ids)), MOST_NAMED) or "-"


def _state(member: "Member", patience: float) -> str:
    """Whether it lives, and how that is known."""
    from ..jobs.process import Life
    from ..text import duration

    if member.life is Life.STOPPED:
        return "suspended"
    if member.life is Life.GONE:
        return "dead"
    if member.is_alive(patience):
        return "alive"
    told = f"; the database had its last {duration(member.presence.told)} ago" if member.presence is not None else ""
    return f"no sign of life for {duration(member.silent or member.watched)}{told}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            f"{cell}{' ' * (width - cell_len(cell))}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
