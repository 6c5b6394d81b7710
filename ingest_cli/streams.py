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


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``20,000 files``; ``plural`` is the noun's, where it takes more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """A length of time for people to read: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
