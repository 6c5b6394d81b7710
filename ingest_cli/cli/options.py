"""The options that commands share, in the groups in which commands take them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..settings import Settings

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file [env: INGEST_CONFIG].", metavar="FILE")
]
Db = Annotated[Path | None, typer.Option("--db", help="The job store [env: INGEST_DB].", metavar="FILE")]
User = Annotated[
    str | None,
    typer.Option("--user", help="The user the policy applies to [env: INGEST_DEFAULT_USER].", metavar="NAME"),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Print more; given twice, also log each request to a service.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Again = Annotated[bool, typer.Option("--again", help="Ingest again even if already ingested.")]
Queue = Annotated[bool, typer.Option("--queue", help="Only queue the job; 'ingest worker' runs it.")]
Receipt = Annotated[
    Path | None, typer.Option("--receipt", help="Write a receipt of what was stored to this file.", metavar="FILE")
]


@dataclass(frozen=True, kw_only=True)
class Site:
    """The site that a command works on."""

    config: Config = None
    db: Db = None

    @property
    def settings(self) -> "Settings":
        """The settings under these options. Raises SettingsError."""
        return settings_under(**vars(self))


@dataclass(frozen=True, kw_only=True)
class UserSite(Site):
    """The site that a command works on, and the user it works for."""

    user: User = None


@dataclass(frozen=True, kw_only=True)
class Submission:
    """How a job is submitted."""

    again: Again = False
    receipt: Receipt = None
    queue: Queue = False


@dataclass(frozen=True, kw_only=True)
class Output:
    """The output of a command that only answers what it is asked."""

    json: Json = False
    debug: Debug = False


@dataclass(frozen=True, kw_only=True)
class QuietOutput:
    """The output of a command that also prints messages."""

    json: Json = False
    quiet: Quiet = False
    debug: Debug = False


@dataclass(frozen=True, kw_only=True)
class RunOutput:
    """The output of a command that runs jobs."""

    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = 0
    debug: Debug = False


def settings_under(
    *,
    config: Path | None = None,
    db: Path | None = None,
    user: str | None = None,
    remote_sources: bool = False,
    move_from: list[Path] | None = None,
) -> "Settings":
    """The settings under these flags, which go before the environment and the configuration file."""
    from ..settings import DATABASE, DEFAULT_USER, MOVE_FROM, REMOTE_SOURCES, load_settings

    flags = {
        DATABASE: str(db) if db else None,
        DEFAULT_USER: user,
        REMOTE_SOURCES: "yes" if remote_sources else None,
        MOVE_FROM: "\n".join(map(str, move_from)) if move_from else None,
    }
    return load_settings(config=config, flags=flags)
