"""``ingest verify [JOB_ID...]``."""

from typing import Annotated

import typer

from .completion import recorded_job_ids
from .options import Config, Db, Debug, Json, Quiet, settings_of


def verify(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to look at.", autocompletion=recorded_job_ids),
    ] = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Every job, and files that are no one's.")] = False,
    since: Annotated[int, typer.Option("--from", min=0, help="With --all: begin with this job.", metavar="JOB_ID")] = 0,
    sample: Annotated[
        float, typer.Option("--sample", min=0, max=100, help="Look at so many percent of the files only.")
    ] = 100.0,
    config: Config = None,
    db: Db = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read the files of jobs back from the archive, and compare their hashes with the catalogue's."""
    import sys
    from dataclasses import asdict
    from itertools import chain

    from ..errors import ExitCode, IngestError, SettingsError
    from ..jobs import JobStore
    from ..services import connect
    from ..verify import Tally, find_orphans, verify_jobs
    from .output import write_event

    if bool(job_ids) == all_jobs:
        raise SettingsError("give either job ids or --all")
    settings = settings_of(config, db)
    tally, damaged = Tally(), 0
    with connect(settings) as services, JobStore(settings.database) as store:
        wanted = list(job_ids or []) or list(store.recorded(since))
        looks = [verify_jobs(services, wanted, share=sample / 100, tally=tally)]
        if all_jobs:
            try:
                looks.append(iter(list(find_orphans(services, store))))
            except IngestError as error:
                print(f"ingest: {error}", file=sys.stderr)
        for damage in chain(*looks):
            damaged += 1
            if json:
                write_event("damage", **asdict(damage))
            else:
                of = f"job {damage.job_id}: " if damage.job_id is not None else ""
                print(f"{of}{damage.name}: {damage.problem}", flush=True)
    if json:
        write_event("verified", jobs=tally.jobs, files=tally.files, bytes=tally.bytes, damaged=damaged)
    if not quiet:
        seen = f"{tally.jobs} jobs, {tally.files} files, {tally.bytes} bytes"
        print(f"ingest: {seen} were read, {damaged} are not well", file=sys.stderr)
    if damaged:
        raise typer.Exit(ExitCode.FAILED)
