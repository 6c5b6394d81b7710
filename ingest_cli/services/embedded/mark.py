"""The mark of an archive: a file at its root by which a site knows its archive, and that the disk is mounted.

An archive gets it when it is made; the site remembers it from the first stored file on. The folder in which a disk is
to be mounted has none, nor has another disk this one.
"""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...disk import durable_write, explained, make_folder, sync_folder
from ...errors import ArchiveError, IngestError, ResourceUnavailable
from ..base import Memory

MARK_NAME = "ARCHIVE-ID"
WORDS = """\
# By this file ingest knows that this archive is there. Leave it here, and copy it with the archive.
# The line below names the archive. An archive that another site uses too may have a line for each.
"""
MAX_BYTES = 1 << 16
NOT_THERE = {errno.ENOENT, errno.ENOTDIR}


class Mark:
    """The mark of the archive at ``root``, which ``memory`` knows; without a memory any archive will do."""

    def __init__(self, root: Path, memory: Memory | None = None) -> None:
        self.root, self._memory = root, memory
        self._path = root / MARK_NAME
        self._known: str | None = None

    @property
    def is_to_be_made(self) -> bool:
        """Whether there is no archive, and none is missing."""
        return self._recall() is None and self._read() is None and not self._holds_files()

    def require(self) -> None:
        """Raise ResourceUnavailable where the site's archive is not there. Nothing is made."""
        known, found = self._recall(), self._read()
        if found is None:
            if known or not self._holds_files():
                raise self._missing()
        elif known and found and known not in found:
            raise ResourceUnavailable(
                f"the archive in {self.root} is not the one that this site has stored files in. Is the right disk"
                f" mounted? To use this archive all the same, add the line {known} to {self._path}"
            )

    def make(self) -> None:
        """Have an archive with a mark: the site's own, which is not made anew, or else a new one.

        One from before archives had marks gets one. Raises ResourceUnavailable, and ArchiveError where the folder
        cannot be written.
        """
        known, found = self._recall(), self._read()
        with self.guarding("prepare"):
            if found is None and (known is None or (known == "" and self._holds_files())):
                make_folder(self.root)
                with suppress(FileExistsError), durable_write(self._path, mode=0o644) as file:
                    file.write(f"{WORDS}{secrets.token_hex(16)}\n".encode())
            elif found == []:
                # An administrator's word that this is the archive.
                with self._path.open("ab") as file:
                    file.write(f"{known or secrets.token_hex(16)}\n".encode())
                    file.flush()
                    os.fsync(file.fileno())
        self.require()

    def note(self) -> None:
        """Have the site remember its archive, durably."""
        if self._memory is not None and not self._recall():
            with self.guarding("sync"):
                sync_folder(self.root)  # another process may have made it just now
            self._memory.note_archive((self._read() or [""])[0])

    @contextmanager
    def guarding(self, action: str) -> Iterator[None]:
        """An error of the system is one of the archive, which cannot do ``action``; or the archive is not there."""
        try:
            yield
        except OSError as error:
            raise self.explained(error, action) from error

    def explained(self, error: OSError, action: str) -> IngestError:
        """What an error of the system is, where the archive cannot do ``action``. Raises what says that it is away."""
        if error.errno in NOT_THERE:
            self.require()
        return self._explained(error, action)

    def _recall(self) -> str | None:
        # What has a name keeps it.
        if not self._known and self._memory is not None:
            self._known = self._memory.archive()
        return self._known

    def _read(self) -> list[str] | None:
        """The names of the archive, one for each line; None where it has no mark."""
        try:
            with self._path.open("rb") as file:
                lines = file.read(MAX_BYTES).decode(errors="replace").splitlines()
        except OSError as error:
            if error.errno in NOT_THERE:
                return None
            raise self._explained(error, "find the mark of") from error
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def _holds_files(self) -> bool:
        """Whether there are files of an archive, or folders of such."""
        with suppress(OSError), os.scandir(self.root) as entries:
            return any(re.fullmatch(r"file\.[0-9a-f]+|[0-9a-f]{2}", entry.name) for entry in entries)
        return False

    def _missing(self) -> ResourceUnavailable:
        return ResourceUnavailable(
            f"the archive is not in {self.root}: {self._path} is missing. Is its disk mounted? If the folder is to be"
            " the archive, make an empty file of this name"
        )

    def _explained(self, error: OSError, action: str) -> IngestError:
        return explained(error, f"cannot {action} the archive {self.root}", ArchiveError, self.root)
