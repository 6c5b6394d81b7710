"""Ingest the bundles of a folder; say what became of each, and where the notes are."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from ingest_cli import (
    IngestError,
    JobFilter,
    JobStatus,
    find_files,
    ingest_bundle,
    list_jobs,
    load_settings,
    read_files,
    verify_job,
)


def main(folder: str) -> int:
    settings = load_settings()
    begun = datetime.now(UTC)
    worst = 0
    for bundle in sorted(Path(folder).glob("*.tar")):
        try:
            job = ingest_bundle(bundle, settings=settings)
        except IngestError as error:
            worst = max(worst, error.exit_code)
            print(f"{bundle.name}: {error} ({'later' if error.transient else 'never'})")
        else:
            print(f"{bundle.name}: job {job.job_id} is {job.status}, {job.files} files")
    new = JobFilter(since=begun, statuses=frozenset({JobStatus.COMPLETE}))
    for job in list_jobs(new, settings=settings):
        for damage in verify_job(job.job_id, settings=settings):
            print(f"{damage.name}: {damage.problem}")
    for job_id, file in find_files(name="*notes*", settings=settings):
        notes = b"".join(read_files(job_id, [file.path], settings=settings))
        print(f"job {job_id}: {file.path}: {notes.decode()}")
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except IngestError as error:
        sys.exit(str(error))
