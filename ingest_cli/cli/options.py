"""The options that every command shares."""

from pathlib import Path
from typing import Annotated

import typer

from ..settings import DATABASE, DEFAULT_USER, REMOTE_SOURCES, Settings, load_settings

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file [env: INGEST_CONFIG].", metavar="FILE")
]
Db = Annotated[Path | None, typer.Option("--db", help="The job store [env: INGEST_DB].", metavar="FILE")]
User = Annotated[
    str | None,
    typer.Option("--user", help="Whom the policy is asked about [env: INGEST_DEFAULT_USER].", metavar="NAME"),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice, of each request to a service too.")
]
Again = Annotated[bool, typer.Option("--again", help="Ingest even what was ingested before.")]
Queue = Annotated[bool, typer.Option("--queue", help="Only enter the job, for 'ingest worker' to run.")]
Receipt = Annotated[
    Path | None, typer.Option("--receipt", help="Write what was stored to this file, as JSON.", metavar="FILE")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def settings_of(
    config: Path | None, db: Path | None, user: str | None = None, *, remote_sources: bool = False
) -> Settings:
    """The settings under a command's flags."""
    flags = {
        DATABASE: str(db) if db else None,
        DEFAULT_USER: user,
        REMOTE_SOURCES: "yes" if remote_sources else None,
    }
    return load_settings(config=config, flags=flags)
