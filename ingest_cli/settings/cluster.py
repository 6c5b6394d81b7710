"""An installation of many hosts: the PostgreSQL database that they share, and what each is to the others."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import SettingsError
from .forms import folders_of, number_of, switch_of
from .options import (
    HOST,
    JOBS_PER_PROJECT,
    LISTEN,
    PRIORITY,
    SHARED,
    USUAL_PRIORITY,
    Option,
)
from .values import POSTGRES, Value, where, without_password

# Part of the name of a queue, of which PostgreSQL makes the name of a channel, of 63 bytes at most.
MAX_HOST = 32
MAX_PRIORITY = 100
MAX_JOBS = 10_000


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A database of PostgreSQL. ``text`` is the URL as libpq takes it, ``shown`` the same without its password."""

    text: str = field(repr=False)
    shown: str

    def __str__(self) -> str:
        """As it can be shown."""
        return self.shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What this host is to the others of an installation of many, which share a job store on PostgreSQL.

    The ``host`` is its name; empty, it is the machine's. The folders ``shared`` are seen by all hosts at the same
    place. Jobs are submitted with a ``priority``, the highest of which are run first. ``jobs_per_project`` is how many
    jobs of one project are run at once, None where that does not matter. Where a worker does not ``listen``, it polls.
    """

    host: str = ""
    shared: tuple[Path, ...] = ()
    priority: int = USUAL_PRIORITY
    jobs_per_project: int | None = None
    listen: bool = True


def cluster_of(values: Mapping[Option, Value]) -> Cluster:
    """What this host is to the others. Raises SettingsError."""
    limit = values[JOBS_PER_PROJECT]
    return Cluster(
        host=_host_of(values[HOST]),
        shared=folders_of(values[SHARED]),
        priority=number_of(values[PRIORITY], 0, MAX_PRIORITY),
        jobs_per_project=number_of(limit, 1, MAX_JOBS) if limit.text else None,
        listen=switch_of(values[LISTEN]),
    )


def _host_of(value: Value) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{0,{MAX_HOST}}}", value.text):
        raise SettingsError(
            f"{where(value)}: {value.shown!r} is not the name of a host, of up to {MAX_HOST} characters"
        )
    return value.text


def postgres_url_of(value: Value) -> PostgresUrl | None:
    """The database that a value names; None where it names something else. Raises SettingsError."""
    if not value.text.startswith(POSTGRES):
        return None
    try:
        parts = urlsplit(value.text)
        usable = parts.path.strip("/") != "" and parts.port != 0 and "@" not in f"{parts.path}{parts.fragment}"
    except ValueError:  # its text quotes the URL
        usable = False
    if not usable or not value.text.isprintable():
        raise no_database(value)
    return PostgresUrl(value.text, without_password(value.text))


def no_database(value: Value) -> SettingsError:
    """What to raise of a value that should name a database; it may hold a password, so it is not quoted."""
    return SettingsError(f"{where(value)} is not postgresql://USER@HOST/DATABASE")
