"""Shell completion of arguments that are jobs or one of a few words. It only reads: it never creates a store."""

import re
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .options import settings_under

if TYPE_CHECKING:
    from ..jobs.job import Job
    from ..settings import Settings

MOST_JOBS = 100
MOST_PATHS = 100
# Who waits for a Tab does not wait for all of a large job.
MOST_FILES = 20_000
# What no shell would have to be told how to read.
PLAIN = re.compile(r"[\w.+=,@%/-]+")
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


def stored_paths(ctx: typer.Context, incomplete: str) -> list[str]:
    """The paths of the files of the job that is named before, or of folders where these are too many."""
    from .. import api
    from ..bundle.reader import DATA_FOLDER
    from ..errors import IngestError

    try:
        job_id = int(ctx.params.get("job_id") or "")
        with closing(api.list_files(job_id, settings=_settings(ctx))) as files:  # type: ignore[type-var]
            paths = [file.path for _, file in islice(files, MOST_FILES)]
    except (IngestError, OSError, RuntimeError, ValueError):
        return []
    # They can be given without the folder that all are in.
    if not incomplete.startswith(DATA_FOLDER):
        paths = [path.removeprefix(DATA_FOLDER) for path in paths]
    return shortest([path for path in paths if path.startswith(incomplete) and PLAIN.fullmatch(path)], incomplete)


def shortest(paths: list[str], incomplete: str) -> list[str]:
    """The paths, or, where they are too many, the first folders in which they part."""
    found, length = paths, len(incomplete)
    while len(found) > MOST_PATHS:
        folders = dict.fromkeys(_next_part(path, length) for path in paths)
        if len(folders) > 1:
            return list(folders)[:MOST_PATHS]
        (folder,) = folders
        length, found = len(folder), [folder]
    return found


def _next_part(path: str, length: int) -> str:
    folder, slash, _ = path[length:].partition("/")
    return path[:length] + folder + slash


def _jobs(ctx: typer.Context, wanted: "Callable[[Job], bool]") -> list[tuple[str, str]]:
    from ..errors import IngestError
    from ..jobs.store import open_store
    from .describe import describe

    try:
        settings = _settings(ctx)
        if isinstance(settings.database, Path) and not settings.database.is_file():
            return []
        with open_store(settings, new=False) as store:
            jobs = store.select(limit=MOST_JOBS)
    except (IngestError, OSError, RuntimeError):  # which expanduser raises
        # A message would land in the line that is being typed; the command itself will say it.
        return []
    return [(str(job.job_id), f"{describe(job)} {_shown(job.name)}") for job in jobs if wanted(job)]


def _settings(ctx: typer.Context) -> "Settings":
    """Those of the command that is being typed. Raises SettingsError, and RuntimeError for the home of nobody."""
    given = map(ctx.params.get, ("config", "db"))
    config, db = (None if word is None else Path(word).expanduser() for word in given)
    return settings_under(config=config, db=db)


def _shown(path: str) -> str:
    # typer breaks what does not fit on a line, and shells take the second one for another candidate. Its script for
    # zsh evaluates what it is told, and it takes brackets for markup.
    name = path.rpartition("/")[2]
    return re.sub(r"[^\w.+=,@%-]", "?", name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}")
