"""The file ids of one job, to which whoever changes an archive for it is bound."""

from ..errors import ArchiveError


def require_within(ids: range, file_id: int) -> None:
    """Raise ArchiveError unless ``file_id`` is one of the reserved ``ids``: a file under any other is another job's."""
    if file_id not in ids:
        reserved = f"files {ids.start} to {ids.stop - 1}" if ids else "no files"
        raise ArchiveError(f"file {file_id} of the archive is left alone: {reserved} were reserved for this job")
