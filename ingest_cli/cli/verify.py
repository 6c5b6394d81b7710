"""``ingest verify [JOB_ID...]``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .completion import recorded_job_ids
from .options import QuietOutput, Site

if TYPE_CHECKING:
    from ..errors import IngestError
    from ..maintenance.verify import Damage, Tally


@command
def verify(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to verify.", autocompletion=recorded_job_ids),
    ] = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Verify every job, and look for orphaned files.")] = False,
    since: Annotated[int, typer.Option("--from", min=0, help="With --all: start at this job.", metavar="JOB_ID")] = 0,
    sample: Annotated[
        float,
        typer.Option("--sample", min=0, max=100, help="Verify only a random sample of the files.", metavar="PERCENT"),
    ] = 100.0,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Compare with the archive's own digests instead, of the files that have one."),
    ] = False,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", help="Compare with this receipt instead of the catalogue.", metavar="FILE"),
    ] = None,
    *,
    site: Site,
    options: QuietOutput,
) -> None:
    """Verify that the archive still holds what was stored.

    Every byte is read, hashed and compared with the catalogue or a receipt. Nothing is changed.
    """
    from .. import api
    from ..errors import ExitCode, IngestError, Interrupted, SettingsError
    from ..maintenance.verify import Tally
    from .display import meter_for
    from .output import finish, notify

    if [bool(job_ids), all_jobs, receipt is not None].count(True) != 1:
        raise SettingsError("give job ids, or --all, or --receipt")
    if fast and receipt is not None:
        raise SettingsError("--fast and --receipt cannot be used together")
    settings, share, tally = site.settings, sample / 100, Tally()
    meter = meter_for(options, "verify", "catalogue")
    absent: list[IngestError] = []

    def missing(error: IngestError) -> None:
        absent.append(error)
        _show_missing(error, json=options.json)

    if receipt is not None:
        damages = api.verify_receipt(receipt, share=share, tally=tally, meter=meter, settings=settings)
    elif all_jobs:
        damages = api.verify_all(
            since=since, share=share, fast=fast, tally=tally, note=notify, meter=meter, settings=settings
        )
    else:
        damages = api.verify_jobs(
            job_ids or [],
            share=share,
            fast=fast,
            tally=tally,
            note=notify,
            meter=meter,
            on_missing=missing,
            settings=settings,
        )
    damaged = 0
    try:
        with meter:
            for damage in damages:
                damaged += 1
                _show(damage, json=options.json)
    except (KeyboardInterrupt, IngestError) as error:
        _say_what_is_left(tally, damaged, all_jobs=all_jobs)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("interrupted") from None
        raise
    if len(absent) < len(job_ids or [None]):
        _conclude(tally, damaged, options, fast=fast)
    if damaged:
        raise typer.Exit(ExitCode.FAILED)
    finish([*absent, *[None] * tally.jobs], debug=options.debug)


def _say_what_is_left(tally: "Tally", damaged: int, *, all_jobs: bool) -> None:
    from ..text import counted
    from .output import notify

    if tally.files:
        problems = counted(damaged, "problem") if damaged else "no problems"
        notify(f"{counted(tally.files, 'file')} verified so far: {problems}")
    if all_jobs and tally.job_id is not None:
        notify(f"'--all --from {tally.job_id}' resumes from here")


def _show_missing(error: "IngestError", *, json: bool) -> None:
    from ..errors import NoSuchJob
    from .output import error_fields, notify, write_event

    notify(error)
    if json:
        job_id = error.job_id if isinstance(error, NoSuchJob) else None
        write_event("missing", job_id=job_id, **error_fields(error))


def _show(damage: "Damage", *, json: bool) -> None:
    from dataclasses import asdict

    from .output import say, write_event

    if json:
        write_event("damage", **asdict(damage))
    else:
        of = f"job {damage.job_id}: " if damage.job_id is not None else ""
        say(f"{of}{damage.name}: {damage.problem}")


def _conclude(tally: "Tally", damaged: int, options: QuietOutput, *, fast: bool) -> None:
    from rich.filesize import decimal

    from ..text import counted
    from .output import notify, write_event

    if options.json:
        counts = {"jobs": tally.jobs, "files": tally.files, "bytes": tally.bytes, "by_digest": tally.by_digest}
        write_event("verified", **counts, damaged=damaged)
    if not options.quiet:
        problems = counted(damaged, "problem") if damaged else "no problems"
        notify(
            f"{counted(tally.jobs, 'job')}, {counted(tally.files, 'file')}, {decimal(tally.bytes)} verified: {problems}"
        )
        if fast:
            notify(f"{counted(tally.by_digest, 'file')} by a digest of the archive's own, the others by their hashes")
