"""Shows what would be stored of folders."""

from rich.filesize import decimal

from .. import api
from ..bundle.description import IDS, description_of
from ..errors import IngestError
from ..pipeline.dry_run import FolderPlan
from ..pipeline.submission import FolderSource
from ..settings import Settings
from ..text import counted
from .options import RunOutput
from .output import finish, notify, say, write_json


def show_plans(sources: list[FolderSource], settings: Settings, options: RunOutput) -> None:
    """Show what would be stored of each folder; then exit as the table of exit codes says."""
    errors = []
    for source, found in zip(sources, api.plan_folders(sources, settings=settings), strict=True):
        error = found if isinstance(found, IngestError) else None
        errors.append(error)
        if isinstance(found, IngestError):
            for number, line in enumerate(found.lines):
                notify(line if number else f"{source.path}: {line}")
        elif options.json:
            write_json(_as_json(source, found))
        elif not options.quiet:
            _show(source, found)
    finish(errors, debug=options.debug)


def _show(source: FolderSource, plan: FolderPlan) -> None:
    if plan.job_id is not None:
        say(f"{source.path}: was ingested before as job {plan.job_id}")
        return
    ids = description_of(source.request.records)
    of = ", ".join(f"{name} {getattr(ids, name)}" for name in IDS)
    say(f"{source.path}: {counted(plan.files, 'file')}, {decimal(plan.bytes)} would be stored: {of}")
    if plan.known_files:
        say(f"  {counted(plan.known_files, 'file')}, {decimal(plan.known_bytes)} ingested before")
    for warning in plan.warnings:
        say(f"  {warning}")


def _as_json(source: FolderSource, plan: FolderPlan) -> dict[str, object]:
    return {
        "source": str(plan.path),
        "job_id": plan.job_id,
        "files": plan.files,
        "bytes": plan.bytes,
        "known_files": plan.known_files,
        "known_bytes": plan.known_bytes,
        "records": source.request.records,
        "left_out": [{"path": entry.name, "reason": entry.reason} for entry in plan.left_out],
    }
