"""A job that no store holds."""

from typing import Any

from ingest_cli.jobs.job import Job, JobKind, JobState


def a_job(state: JobState, **changes: Any) -> Job:
    blank: dict[str, Any] = {
        **dict.fromkeys(
            ("source", "origin", "fingerprint", "user", "task", "exception", "created", "updated", "began"), ""
        ),
        **dict.fromkeys(("holder", "digest", "undo_to", "successor", "override", "reservation")),
        **dict.fromkeys(("task_percent", "files", "bytes", "attempts", "waits", "retry_at"), 0),
        **dict.fromkeys(("fence_number", "heartbeat"), 0),
    }
    return Job(**{**blank, "job_id": 1, "kind": JobKind.BUNDLE, "spooled": False, "state": state, **changes})
