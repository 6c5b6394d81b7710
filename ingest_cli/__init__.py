"""Ingest bundles of scientific data into an archive and a catalogue.

The names of ``__all__`` are for scripts; see `ingest_cli.api`. They are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        back_up,
        cancel_jobs,
        check_bundle,
        check_bundles,
        count_jobs,
        diagnose,
        discard_jobs,
        find_copies,
        find_files,
        find_job,
        ingest_bundle,
        ingest_files,
        ingest_folder,
        list_files,
        list_jobs,
        move_files,
        pack_bundle,
        prioritize_job,
        prune,
        queue_each,
        queue_files,
        read_files,
        restore_bundle,
        restore_folder,
        retry_jobs,
        run_queue,
        save_receipt,
        set_job_state,
        upload,
        verify_all,
        verify_job,
        verify_jobs,
        verify_receipt,
    )
    from .bundle.pack_rules import PackRules
    from .client.upload import Terms
    from .errors import IngestError
    from .jobs.filter import JobFilter
    from .jobs.job import JobKind, JobStatus
    from .pipeline.observer import Observer
    from .settings import load_settings

__version__ = "0.1.0"
__all__ = [
    "IngestError",
    "JobFilter",
    "JobKind",
    "JobStatus",
    "Observer",
    "PackRules",
    "Terms",
    "back_up",
    "cancel_jobs",
    "check_bundle",
    "check_bundles",
    "count_jobs",
    "diagnose",
    "discard_jobs",
    "find_copies",
    "find_files",
    "find_job",
    "ingest_bundle",
    "ingest_files",
    "ingest_folder",
    "list_files",
    "list_jobs",
    "load_settings",
    "move_files",
    "pack_bundle",
    "prioritize_job",
    "prune",
    "queue_each",
    "queue_files",
    "read_files",
    "restore_bundle",
    "restore_folder",
    "retry_jobs",
    "run_queue",
    "save_receipt",
    "set_job_state",
    "upload",
    "verify_all",
    "verify_job",
    "verify_jobs",
    "verify_receipt",
]
_ELSEWHERE = {
    "PackRules": "bundle.pack_rules",
    "Terms": "client.upload",
    "IngestError": "errors",
    "JobFilter": "jobs.filter",
    "JobKind": "jobs.job",
    "JobStatus": "jobs.job",
    "Observer": "pipeline.observer",
    "load_settings": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)
