"""The functions behind the command line, which has no logic of its own; scripts can call them too.

Each call opens what it needs and closes it again. ``settings`` are those of `load_settings`, which is also what is used
where none are given: the environment, the configuration file and the defaults, as on the command line. A path may be
any that ``open`` takes, but for bytes. What returns an iterator does its work while one goes through it, and closes
what it has opened at its end. All raise IngestError.

They are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checking import check_bundle, check_bundles, save_receipt, verify_all, verify_job, verify_jobs, verify_receipt
    from .events import count_events, list_events, resend_events, send_events
    from .folders import folders_in, ids_of, last_ids, plan_folders
    from .hosts import list_hosts
    from .housekeeping import back_up, diagnose, make_databases, prune, skip_ids
    from .ingesting import (
        ingest_bundle,
        ingest_files,
        ingest_folder,
        move_files,
        queue_each,
        queue_files,
        retry_jobs,
        run_queue,
    )
    from .jobs import (
        cancel_jobs,
        count_jobs,
        discard_jobs,
        find_imported_job,
        find_job,
        import_jobs,
        list_jobs,
        set_job_state,
    )
    from .moving import migrate_store
    from .opening import AnyPath
    from .packing import pack_bundle, pack_requested, plan_bundle
    from .stored import find_copies, find_files, list_files, read_files, rest_of_folder, restore_bundle, restore_folder
    from .uploading import upload

__all__ = [
    "AnyPath",
    "back_up",
    "cancel_jobs",
    "check_bundle",
    "check_bundles",
    "count_events",
    "count_jobs",
    "diagnose",
    "discard_jobs",
    "find_copies",
    "find_files",
    "find_imported_job",
    "find_job",
    "folders_in",
    "ids_of",
    "import_jobs",
    "ingest_bundle",
    "ingest_files",
    "ingest_folder",
    "last_ids",
    "list_events",
    "list_files",
    "list_hosts",
    "list_jobs",
    "make_databases",
    "migrate_store",
    "move_files",
    "pack_bundle",
    "pack_requested",
    "plan_bundle",
    "plan_folders",
    "prioritize_job",
    "prune",
    "queue_each",
    "queue_files",
    "read_files",
    "resend_events",
    "rest_of_folder",
    "restore_bundle",
    "restore_folder",
    "retry_jobs",
    "run_queue",
    "save_receipt",
    "send_events",
    "set_job_state",
    "skip_ids",
    "upload",
    "verify_all",
    "verify_job",
    "verify_jobs",
    "verify_receipt",
]
_OF = {
    "checking": {
        "check_bundle",
        "check_bundles",
        "save_receipt",
        "verify_all",
        "verify_job",
        "verify_jobs",
        "verify_receipt",
    },
    "events": {"count_events", "list_events", "resend_events", "send_events"},
    "folders": {"folders_in", "ids_of", "last_ids", "plan_folders"},
    "hosts": {"list_hosts"},
    "housekeeping": {"back_up", "diagnose", "make_databases", "prune", "skip_ids"},
    "ingesting": {
        "ingest_bundle",
        "ingest_files",
        "ingest_folder",
        "move_files",
        "queue_each",
        "queue_files",
        "retry_jobs",
        "run_queue",
    },
    "jobs": {
        "cancel_jobs",
        "count_jobs",
        "discard_jobs",
        "find_imported_job",
        "find_job",
        "import_jobs",
        "list_jobs",
        "prioritize_job",
        "set_job_state",
    },
    "moving": {"migrate_store"},
    "opening": {"AnyPath"},
    "packing": {"pack_bundle", "pack_requested", "plan_bundle"},
    "stored": {
        "find_copies",
        "find_files",
        "list_files",
        "read_files",
        "rest_of_folder",
        "restore_bundle",
        "restore_folder",
    },
    "uploading": {"upload"},
}
_MODULES = {name: module for module, names in _OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
