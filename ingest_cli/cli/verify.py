"""``ingest verify [JOB_ID...]``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .completion import recorded_job_ids
from .options import QuietOutput, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..errors import IngestError
    from ..maintenance.verify import Damage, Tally
    from ..meter import Meter
    from ..settings import Settings


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How many files are compared, and with what."""

    sample: Annotated[
        float,
        typer.Option("--sample", min=0, max=100, help="Verify only a random sample of the files.", metavar="PERCENT"),
    ] = 100.0
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Compare with the archive's own digests instead, of the files that have one."),
    ] = False
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", help="Compare with this receipt instead of the catalogue.", metavar="FILE"),
    ] = None


@command
def verify(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to verify.", autocompletion=recorded_job_ids),
    ] = None,
    all_jobs: Annotated[bool, typer.Option("--all", help="Verify every job, and look for orphaned files.")] = False,
    since: Annotated[int, typer.Option("--from", min=0, help="With --all: start at this job.", metavar="JOB_ID")] = 0,
    *,
    comparison: Comparison,
    site: Site,
    options: QuietOutput,
) -> None:
    """Verify that the archive still holds what was stored.

    Every byte is read, hashed and compared with the catalogue or a receipt. Nothing is changed.
    """
    from ..errors import ExitCode, IngestError, SettingsError
    from ..maintenance.verify import Tally
    from .display import meter_for
    from .output import finish

    if [bool(job_ids), all_jobs, comparison.receipt is not None].count(True) != 1:
        raise SettingsError("give job ids, or --all, or --receipt")
    if comparison.fast and comparison.receipt is not None:
        raise SettingsError("--fast and --receipt cannot be used together")
    tally, meter = Tally(), meter_for(options, "verify", "catalogue")
    absent: list[IngestError] = []

    def missing(error: IngestError) -> None:
        absent.append(error)
        _show_missing(error, json=options.json)

    damages = _damages(None if all_jobs else job_ids, since, comparison, site.settings, tally, meter, missing)
    damaged = _shown(damages, tally, meter, all_jobs=all_jobs, json=options.json)
    if len(absent) < len(job_ids or [None]):
        _conclude(tally, damaged, options, fast=comparison.fast)
    if damaged:
        raise typer.Exit(ExitCode.FAILED)
    finish([*absent, *[None] * tally.jobs], debug=options.debug)


def _damages(
    job_ids: list[int] | None,
    since: int,
    comparison: Comparison,
    settings: "Settings",
    tally: "Tally",
    meter: "Meter",
    missing: "Callable[[IngestError], None]",
) -> "Iterator[Damage]":
    """What is found of the jobs, of all from ``since`` on where none are given, or of those of the receipt."""
    from .. import api
    from .output import notify

    share, fast = comparison.sample / 100, comparison.fast
    if comparison.receipt is not None:
        return api.verify_receipt(comparison.receipt, share=share, tally=tally, meter=meter, settings=settings)
    if job_ids is None:
        return api.verify_all(
            since=since, share=share, fast=fast, tally=tally, note=notify, meter=meter, settings=settings
        )
    return api.verify_jobs(
        job_ids,
        share=share,
        fast=fast,
        tally=tally,
        note=notify,
        meter=meter,
        on_missing=missing,
        settings=settings,
    )


def _shown(damages: "Iterator[Damage]", tally: "Tally", meter: "Meter", *, all_jobs: bool, json: bool) -> int:
    """Show what is found, and return how much that is. Raises Interrupted, having said what is left."""
    from ..errors import IngestError, Interrupted

    damaged = 0
    try:
        with meter:
            for damage in damages:
                damaged += 1
                _show(damage, json=json)
    except (KeyboardInterrupt, IngestError) as error:
        _say_what_is_left(tally, damaged, all_jobs=all_jobs)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("interrupted") from None
        raise
    return damaged


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
