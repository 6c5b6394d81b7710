"""How commands show stored files: fitted to a terminal, or in lines for programs."""

import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.filesize import decimal

from ..services.base import StoredFile
from ..text import counted, one_line
from .output import say, write_json

GAP = "  "
# These fit what is usual; what is wider takes its room.
SIZE_WIDTH, TIME_WIDTH, JOB_WIDTH = len("999.9 MB"), len("2026-11-28 14:30"), 6
# In a window that has no more than this for the path beside the time, the time is left out.
SHORTEST_PATH = 24
LONG_INDENT = 4


def as_object(job_id: int, file: StoredFile) -> dict[str, Any]:
    """The object of a file that a job has stored."""
    return {
        "job_id": job_id,
        "file_id": file.file_id,
        "path": file.path,
        "size": file.size,
        "hashtype": file.hashtype,
        "hashsum": file.hashsum,
        "mimetype": file.mimetype,
        "ctime": file.ctime,
        "mtime": file.mtime,
    }


@dataclass(slots=True, kw_only=True)
class FileLines:
    """Writes a line for each file as it comes, and counts them.

    On a terminal it is a table of what fits; elsewhere all of it stands between tabs: the job where it ``has_jobs``,
    size, time, path, and with ``long`` the hash, the id and the media type. With ``json`` it is an object.
    """

    has_jobs: bool
    long: bool
    json: bool
    files: int = 0
    total_bytes: int = 0

    def show(self, job_id: int, file: StoredFile) -> None:
        """Write the file."""
        self.files += 1
        self.total_bytes += file.size
        if self.json:
            write_json(as_object(job_id, file))
        elif sys.stdout.isatty():
            self._show_row(job_id, file)
        else:
            self._show_fields(job_id, file)

    def end(self) -> None:
        """Write how many there were, for the person who looks on."""
        if self.files and not self.json and sys.stdout.isatty():
            say(f"{counted(self.files, 'file')}, {decimal(self.total_bytes)}")

    def _show_fields(self, job_id: int, file: StoredFile) -> None:
        fields = [str(job_id)] if self.has_jobs else []
        fields += [str(file.size), file.mtime or "", file.path]
        if self.long:
            fields += [f"{file.hashtype}:{file.hashsum}", str(file.file_id), file.mimetype]
        say_fields(fields, flush=False)

    def _show_row(self, job_id: int, file: StoredFile) -> None:
        width = shutil.get_terminal_size().columns
        if self.files == 1:
            say(self._row("job", "size", "modified", "path", width))
        say(self._row(str(job_id), decimal(file.size), _minute(file.mtime), file.path, width))
        if self.long:
            say(f"{'':{LONG_INDENT}}{file.hashtype}:{file.hashsum}")
            say(f"{'':{LONG_INDENT}}file {file.file_id}, {file.mimetype}")

    def _row(self, job: str, size: str, when: str, path: str, width: int) -> str:
        cells = [f"{job:>{JOB_WIDTH}}"] if self.has_jobs else []
        cells.append(f"{size:>{SIZE_WIDTH}}")
        if width - len(GAP.join(cells)) - TIME_WIDTH - 2 * len(GAP) >= SHORTEST_PATH:
            cells.append(f"{when:<{TIME_WIDTH}}")
        room = width - len(GAP.join(cells)) - len(GAP)
        return GAP.join([*cells, shortened_path(path, room)])


def say_fields(fields: list[str], *, flush: bool = True) -> None:
    """Print a line for programs, with tabs between the fields and none within; of many at once, none need ``flush``."""
    print("\t".join(map(one_line, fields)), flush=flush)


def shortened_path(path: str, room: int) -> str:
    """The end of a path, which tells more than its beginning, in so many columns."""
    encoding = getattr(sys.stdout, "speaks", sys.stdout.encoding)
    # What will be escaped on its way takes more room than it has here.
    shown = one_line(path).encode(encoding, "backslashreplace").decode(encoding)
    if cell_len(shown) <= room:
        return shown
    dots = "…" if encoding.lower().startswith("utf") else "..."
    while shown and cell_len(dots + shown) > room:
        shown = shown[1:]
    return dots + shown


def _minute(mtime: str | None) -> str:
    try:
        return f"{datetime.fromisoformat(mtime or ''):%Y-%m-%d %H:%M}"
    except ValueError:  # whatever the document had
        return "-"
