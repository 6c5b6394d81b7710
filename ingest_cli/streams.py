"""Standard output and standard error, shared by several processes."""

import io
import sys
from typing import Any


def keep_lines_whole() -> None:
    """Write each line in one piece, so that lines of other processes come before or after it, not within.

    From then on, a standard error that cannot be written, such as a log on a full disk, does not fail a job either.
    """
    if sys.stderr is not None:
        standard_error = _StandardError(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(standard_error, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.write_through:
        # So it is under PYTHONUNBUFFERED, where a line and its end are two writes.
        sys.stdout.reconfigure(line_buffering=True, write_through=False)


class _StandardError(io.FileIO):
    """Standard error, whose failures are ignored."""

    def write(self, data: Any) -> int:
        """Write, or ignore that it cannot be written."""
        try:
            return super().write(data)
        except OSError:
            return len(data)
