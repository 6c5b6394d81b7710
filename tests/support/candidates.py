"""Files and folders of a drop folder as a watcher sees them."""

from pathlib import Path

from ingest_cli.watch.candidates import Candidate, fingerprint_at


def candidate_at(path: Path, fingerprint: str | None = None) -> Candidate:
    """The candidate at ``path``, as it is there now or as its fingerprint was."""
    return Candidate(path, fingerprint or fingerprint_at(path, path), path, 0.0, 0.0)
