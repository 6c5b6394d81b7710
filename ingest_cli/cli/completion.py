"""Shell completion of arguments that are jobs or one of a few words. It only reads: it never creates a store."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .options import settings_under

if TYPE_CHECKING:
    from ..jobs.job import Job

MOST_JOBS = 100
LONGEST_NAME = 24


def job_ids(ctx: typer.Context) -> list[tuple[str, str]]:
    """The newest jobs."""
    return _jobs(ctx, lambda _: True)


def unfinished_job_ids(ctx: typer.Context) -> list[tuple[str, str]]:
    """Those of the newest jobs that can be run again."""
    return _jobs(ctx, lambda job: not job.is_done)


def recorded_job_ids(ctx: typer.Context) -> list[tuple[str, str]]:
    """Those of the newest jobs that the catalogue holds."""
    return _jobs(ctx, lambda job: job.is_done)


def states() -> list[str]:
    """The states that a job can be set to."""
    from ..jobs.job import PacificaState

    return list(PacificaState)


def orders() -> list[str]:
    """The orders in which jobs are listed."""
    from ..jobs.filter import JobOrder

    return list(JobOrder)


def log_formats() -> list[str]:
    """How the server logs."""
    return ["text", "json"]


def _jobs(ctx: typer.Context, wanted: "Callable[[Job], bool]") -> list[tuple[str, str]]:
    from ..errors import IngestError
    from ..jobs.store import open_store
    from .describe import describe

    try:
        given = map(ctx.params.get, ("config", "db"))
        config, db = (None if word is None else Path(word).expanduser() for word in given)
        settings = settings_under(config=config, db=db)
        if not settings.database.is_file():
            return []
        with open_store(settings, new=False) as store:
            jobs = store.select(limit=MOST_JOBS)
    except (IngestError, OSError, RuntimeError):  # which expanduser raises
        # A message would land in the line that is being typed; the command itself will say it.
        return []
    return [(str(job.job_id), f"{describe(job)} {_shown(job.name)}") for job in jobs if wanted(job)]


def _shown(path: str) -> str:
    # typer breaks what does not fit on a line, and shells take the second one for another candidate. Its script for
    # zsh evaluates what it is told, and it takes brackets for markup.
    name = path.rpartition("/")[2]
    return re.sub(r"[^\w.+=,@%-]", "?", name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}")
