"""The options that commands share, in the groups in which commands take them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..bundle.description import Description
    from ..bundle.pack_rules import PackRules
    from ..settings import Option, Settings, Value

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
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Leave out files and folders that match, such as '*.tmp' or '/cache/'; can be repeated.",
        metavar="GLOB",
    ),
]
NoDefaultExcludes = Annotated[
    bool, typer.Option("--no-default-excludes", help="Pack the files of operating systems too, such as '.DS_Store'.")
]
SkipSpecial = Annotated[
    bool, typer.Option("--skip-special", help="Leave out links, FIFOs, sockets and devices instead of refusing them.")
]
Dereference = Annotated[bool, typer.Option("--dereference", help="Pack what links point to.")]
SUBMITTER = typer.Option("--submitter", min=0, help="The submitter's id.", metavar="ID")
PROJECT = typer.Option("--project", help="The project's id.", metavar="ID")
INSTRUMENT = typer.Option("--instrument", min=0, help="The instrument's id.", metavar="ID")
FOLDER_SUBMITTER = typer.Option("--submitter", min=0, help="The submitter's id [env: INGEST_SUBMITTER].", metavar="ID")
FOLDER_PROJECT = typer.Option("--project", help="The project's id [env: INGEST_PROJECT].", metavar="ID")
FOLDER_INSTRUMENT = typer.Option(
    "--instrument", min=0, help="The instrument's id [env: INGEST_INSTRUMENT].", metavar="ID"
)
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Add a key and its value to the metadata; can be repeated.", metavar="KEY=VALUE"),
]
MAX_JOBS, MAX_PRIORITY = 64, 100
Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", min=1, max=MAX_JOBS, help="How many jobs to run at once.", metavar="NUMBER"),
]
LimitRate = Annotated[
    str | None,
    typer.Option(
        "--limit-rate",
        help="Read no more bytes a second than this, of all jobs together, such as 500k or 10M.",
        metavar="RATE",
    ),
]
Queue = Annotated[bool, typer.Option("--queue", help="Only queue the job; 'ingest worker' runs it.")]
Priority = Annotated[
    int | None,
    typer.Option(
        "--priority",
        min=0,
        max=MAX_PRIORITY,
        help="How urgent the jobs are, from 0 to 100: the highest run first. Needs a job store on PostgreSQL.",
        metavar="NUMBER",
    ),
]
Receipt = Annotated[
    Path | None, typer.Option("--receipt", help="Write a receipt of what was stored to this file.", metavar="FILE")
]


Each = Annotated[bool, typer.Option("--each", help="Make a job of each folder in the given folders.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be taken of the folders, and what is left out.")
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

    @property
    def values(self) -> "tuple[Value, ...]":
        """The effective values under these options, usable or not. Raises SettingsError."""
        return values_under(**vars(self))


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
    priority: Priority = None
    jobs: Jobs = 1
    limit_rate: LimitRate = None


@dataclass(frozen=True, kw_only=True)
class Describing:
    """Of whom and what a folder is."""

    submitter: Annotated[int | None, FOLDER_SUBMITTER] = None
    project: Annotated[str | None, FOLDER_PROJECT] = None
    instrument: Annotated[int | None, FOLDER_INSTRUMENT] = None
    key: Keys = None

    @property
    def description(self) -> "Description":
        """What these options say. Raises SettingsError."""
        from ..bundle.description import Description

        return Description(
            submitter=self.submitter,
            project=self.project,
            instrument=self.instrument,
            keys=tuple(pairs_of(self.key)),
        )


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Which files of a folder are packed."""

    exclude: Exclude = None
    no_default_excludes: NoDefaultExcludes = False
    skip_special: SkipSpecial = False
    dereference: Dereference = False

    @property
    def rules(self) -> "PackRules":
        """The rules under these options. Raises SettingsError."""
        from ..bundle.pack_rules import PackRules

        return PackRules(
            exclude=tuple(self.exclude or ()),
            default_excludes=not self.no_default_excludes,
            skip_special=self.skip_special,
            dereference=self.dereference,
        )


@dataclass(frozen=True, kw_only=True)
class Output:
    """The output of a command that only answers what it is asked: ``--quiet`` is taken, and changes nothing."""

    json: Json = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", hidden=True)] = False
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


def with_priority(settings: "Settings", priority: int | None) -> "Settings":
    """The settings, under which jobs are submitted with the ``priority`` if one is given. Raises SettingsError."""
    from dataclasses import replace

    from ..errors import SettingsError

    if priority is None:
        return settings
    if isinstance(settings.database, Path):
        raise SettingsError(
            "--priority needs a job store on PostgreSQL: set [database] url (INGEST_DATABASE_URL);"
            " that of one host runs the oldest job first"
        )
    return replace(settings, cluster=replace(settings.cluster, priority=priority))


def pairs_of(keys: list[str] | None) -> list[tuple[str, str]]:
    """The keys and values of ``--key``. Raises SettingsError."""
    from ..errors import SettingsError

    pairs = [text.partition("=") for text in keys or []]
    for key, equals, _ in pairs:
        if not equals:
            raise SettingsError(f"--key {key!r} is not of the form KEY=VALUE")
    return [(key, value) for key, _, value in pairs]


def settings_under(
    *,
    config: Path | None = None,
    db: Path | None = None,
    user: str | None = None,
    remote_sources: bool = False,
    move_from: list[Path] | None = None,
    root_path: str | None = None,
    more: "Mapping[Option, str | None] | None" = None,
) -> "Settings":
    """The settings under these flags, which go before the environment and the configuration file."""
    from ..settings import settings_of

    return settings_of(
        values_under(
            config=config,
            db=db,
            user=user,
            remote_sources=remote_sources,
            move_from=move_from,
            root_path=root_path,
            more=more,
        )
    )


def values_under(
    *,
    config: Path | None = None,
    db: Path | None = None,
    user: str | None = None,
    remote_sources: bool = False,
    move_from: list[Path] | None = None,
    root_path: str | None = None,
    more: "Mapping[Option, str | None] | None" = None,
) -> "tuple[Value, ...]":
    """The effective values under these flags, usable or not."""
    from ..settings import read_values
    from ..settings.options import DATABASE, DEFAULT_USER, MOVE_FROM, REMOTE_SOURCES, ROOT_PATH

    flags = {
        DATABASE: str(db) if db else None,
        DEFAULT_USER: user,
        REMOTE_SOURCES: "yes" if remote_sources else None,
        MOVE_FROM: "\n".join(map(str, move_from)) if move_from else None,
        ROOT_PATH: root_path,
        **(more or {}),
    }
    return read_values(config=config, flags=flags)
