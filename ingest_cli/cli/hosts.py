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
    if output.json:
        write_json_list(map(_fields, members))
        return
    for line in _lines(members, settings):
        say(line)


def _fields(member: "Member") -> dict[str, object]:
    """A process as programs are told of it."""
    presence = member.presence
    return {
        "host": member.host,
        "role": presence.role if presence is not None else None,
        "pid": member.process.pid,
        "version": presence.version if presence is not None else None,
        "since": presence.since if presence is not None else None,
        "job_ids": list(member.jobs),
        "alive": member.is_alive,
        "told_seconds": presence.told if presence is not None else None,
        "clock_seconds": presence.ahead if presence is not None else None,
    }


def _lines(members: "list[Member]", settings: "Settings") -> Iterator[str]:
    from pathlib import Path

    if isinstance(settings.database, Path):
        from ..jobs.process import host_name

        yield f"one host, {host_name()}: its job store is the file {settings.database}"
        if not members:
            yield "no job is being worked on"
    elif not members:
        yield f"nothing runs: no process says in {settings.database} that it is there"
    if members:
        yield from _table([HEADER, *map(_row, members)])


def _row(member: "Member") -> tuple[str, ...]:
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
        _state(member),
    )


def _jobs(job_ids: Sequence[int]) -> str:
    from ..text import listed

    return listed(list(map(str, job_ids)), MOST_NAMED) or "-"


def _state(member: "Member") -> str:
    """Whether it lives, and how that is known."""
    from ..jobs.process import Life
    from ..text import duration

    if member.life is Life.STOPPED:
        return "suspended"
    if member.life is Life.GONE:
        return "dead"
    if member.is_alive:
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
