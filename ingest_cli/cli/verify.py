"""``ingest verify [JOB_ID...]``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .completion import recorded_job_ids
from .options import Config, Db, Debug, Json, Quiet, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..jobs.store import JobStore
    from ..maintenance.verify import Damage, Tally
    from ..settings import Settings


def verify(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to look at.", autocompletion=recorded_job_ids),
    ] = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Every job, and orphaned files.")] = False,
    since: Annotated[int, typer.Option("--from", min=0, help="With --all: begin with this job.", metavar="JOB_ID")] = 0,
    sample: Annotated[
        float, typer.Option("--sample", min=0, max=100, help="Look at so many percent of the files only.")
    ] = 100.0,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="Compare with this receipt, not the catalogue.", metavar="FILE")
    ] = None,
    config: Config = None,
    db: Db = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """See whether the archive still holds what it took.

    Every byte is read and hashed again, and compared with the catalogue or a receipt. Nothing is changed.
    """
    import sys
    from dataclasses import asdict

    from ..errors import ExitCode, IngestError, Interrupted, SettingsError
    from ..maintenance.verify import Tally
    from .output import write_event

    if [bool(job_ids), all_jobs, receipt is not None].count(True) != 1:
        raise SettingsError("give job ids, or --all, or --receipt")
    settings = settings_of(config, db)
    tally, damaged = Tally(), 0
    if receipt is not None:
        damages = _against_receipt(settings, receipt, sample / 100, tally)
    else:
        damages = _against_catalogue(settings, job_ids, since, sample / 100, tally)
    try:
        for damage in damages:
            damaged += 1
            if json:
                write_event("damage", **asdict(damage))
            else:
                of = f"job {damage.job_id}: " if damage.job_id is not None else ""
                print(f"{of}{damage.name}: {damage.problem}", flush=True)
    except (KeyboardInterrupt, IngestError) as error:
        if all_jobs and tally.job_id is not None:
            print(f"ingest: '--all --from {tally.job_id}' resumes from here", file=sys.stderr)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted from None
        raise
    if json:
        write_event("verified", jobs=tally.jobs, files=tally.files, bytes=tally.bytes, damaged=damaged)
    if not quiet:
        seen = f"{tally.jobs} jobs, {tally.files} files, {tally.bytes} bytes"
        print(f"ingest: {seen} were read, {damaged} are not well", file=sys.stderr)
    if damaged:
        raise typer.Exit(ExitCode.FAILED)


def _against_receipt(settings: "Settings", path: Path, share: float, tally: "Tally") -> "Iterator[Damage]":
    from contextlib import closing

    from ..maintenance.receipt import read_receipt
    from ..maintenance.verify import verify_files
    from ..services.factory import archive

    receipt = read_receipt(path)
    tally.jobs = 1
    with closing(archive(settings)) as site_archive:
        yield from verify_files(site_archive, receipt.job_id, receipt.files, share=share, tally=tally)


def _against_catalogue(
    settings: "Settings", job_ids: list[int] | None, since: int, share: float, tally: "Tally"
) -> "Iterator[Damage]":
    """Of these jobs; without any, of all from ``since`` on, with the orphaned files."""
    import sys

    from ..errors import IngestError
    from ..jobs.store import open_store
    from ..maintenance.verify import find_orphans, verify_jobs
    from ..services.factory import connect

    with connect(settings) as services, open_store(settings) as store:
        recorded = [_recorded_as(store, job_id) for job_id in job_ids or []]
        yield from verify_jobs(services, recorded or list(store.recorded(since)), share=share, tally=tally)
        if job_ids:
            return
        try:
            yield from find_orphans(services, store)
        except IngestError as error:
            print(f"ingest: {error}", file=sys.stderr)


def _recorded_as(store: "JobStore", job_id: int) -> int:
    import sys

    from ..pipeline.selection import recorded_as

    recorded = recorded_as(store, job_id)
    if recorded != job_id:
        print(f"ingest: the content of job {job_id} is job {recorded}'s, which is verified", file=sys.stderr)
    return recorded
