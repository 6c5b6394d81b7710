"""Shows what would be stored or packed of folders."""

from pathlib import Path

from rich.filesize import decimal

from .. import api
from ..bundle.description import IDS, description_of
from ..bundle.folder import FolderRequest
from ..bundle.gather import warnings_of
from ..bundle.records import odd_times
from ..errors import IngestError
from ..pipeline.dry_run import FolderPlan
from ..pipeline.submission import FolderSource
from ..settings import Settings
from ..text import counted
from .options import QuietOutput, RunOutput
from .output import error_fields, finish, notify, say, write_json


def show_plans(sources: list[FolderSource], settings: Settings, options: RunOutput) -> None:
    """Show what would be stored of each folder; then exit as the table of exit codes says."""
    errors = []
    for source, found in zip(sources, api.plan_folders(sources, settings=settings), strict=True):
        error = found if isinstance(found, IngestError) else None
        errors.append(error)
        if isinstance(found, IngestError):
            if options.json:
                write_json({"source": str(source.path), **error_fields(found)})
            for number, line in enumerate(found.lines):
                notify(line if number else f"{source.path}: {line}")
        elif options.json:
            write_json(_as_json(source, found))
        elif not options.quiet:
            _show(source, found)
    finish(errors, debug=options.debug)


def show_plan_of_bundle(target: Path, paths: list[Path], request: FolderRequest, options: QuietOutput) -> None:
    """Show what would be in a bundle."""
    planned = api.plan_bundle(paths, request)
    files, left_out = planned.gathered.files, planned.gathered.left_out
    size = planned.document.total_bytes
    if options.json:
        named = [{"path": entry.name, "reason": entry.reason} for entry in left_out]
        write_json({"target": str(target), "files": len(files), "bytes": size, "left_out": named})
    elif not options.quiet:
        say(f"{target}: {counted(len(files), 'file')}, {decimal(size)} would be packed: {_of(request)}")
        for warning in [*warnings_of(left_out), *odd_times(files)]:
            say(f"  {warning}")


def _show(source: FolderSource, found: FolderPlan) -> None:
    if found.job_id is not None:
        say(f"{source.path}: was ingested before as job {found.job_id}")
        return
    of = _of(source.request)
    say(f"{source.path}: {counted(found.files, 'file')}, {decimal(found.bytes)} would be stored: {of}")
    if found.known_files:
        say(f"  {counted(found.known_files, 'file')}, {decimal(found.known_bytes)} ingested before")
    for warning in found.warnings:
        say(f"  {warning}")


def _of(request: FolderRequest) -> str:
    ids = description_of(request.records)
    return ", ".join(f"{name} {getattr(ids, name)}" for name in IDS)


def _as_json(source: FolderSource, found: FolderPlan) -> dict[str, object]:
    return {
        "source": str(found.path),
        "job_id": found.job_id,
        "files": found.files,
        "bytes": found.bytes,
        "known_files": found.known_files,
        "known_bytes": found.known_bytes,
        "records": source.request.records,
        "left_out": [{"path": entry.name, "reason": entry.reason} for entry in found.left_out],
    }
