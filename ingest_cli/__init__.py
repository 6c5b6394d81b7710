"""Ingest bundles of scientific data into an archive and a catalogue.

The names of ``__all__`` are for scripts; see `ingest_cli.api`. They are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        check_bundle,
        check_bundles,
        discard_jobs,
        find_copies,
        find_files,
        find_job,
        ingest_bundle,
        ingest_files,
        ingest_folder,
        list_files,
        move_files,
        queue_files,
        read_files,
        restore_bundle,
        restore_folder,
        retry_jobs,
        save_receipt,
        set_job_state,
        verify_all,
        verify_job,
        verify_jobs,
        verify_receipt,
    )
    from .errors import IngestError
    from .settings import load_settings

__version__ = "0.1.0"
__all__ = [
    "IngestError",
    "check_bundle",
    "check_bundles",
    "discard_jobs",
    "find_copies",
    "find_files",
    "find_job",
    "ingest_bundle",
    "ingest_files",
    "ingest_folder",
    "list_files",
    "load_settings",
    "move_files",
    "queue_files",
    "read_files",
    "restore_bundle",
    "restore_folder",
    "retry_jobs",
    "save_receipt",
    "set_job_state",
    "verify_all",
    "verify_job",
    "verify_jobs",
    "verify_receipt",
]
_ELSEWHERE = {"IngestError": "errors", "load_settings": "settings"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)
