"""The folder of one run of a job, beside the files of the archive and on the same disk.

A run that takes over renames the folders of earlier runs away: whatever those still attempt, when they wake up, finds
no folder, and changes nothing.
"""

import os
from contextlib import suppress
from pathlib import Path

from .layout import RUNS_FOLDER, id_to_path


class RunFolder:
    """Where the run with ``fence`` prepares the files ``ids`` of the archive at ``root``.

    The folders of runs with a smaller fence are gone once it is made; a job without files has none. Raises OSError.
    """

    def __init__(self, root: Path, ids: range, fence: int) -> None:
        self._root, self._ids, self._fence = root, ids, fence
        self._runs = root / RUNS_FOLDER
        self.path = self._runs / f"{ids.start}.{fence}"
        # A folder that an earlier run of these ids left says that this is the disk that it was.
        self.had_predecessor = self.path.exists()
        if ids:
            self._begin()

    def target(self, file_id: int) -> str:
        """The place of a file in the archive."""
        return f"{self._root}/{id_to_path(file_id)}"

    def aside(self, file_id: int, use: str) -> str:
        """A place for a file in this folder; one for "back" is brought back to its target if the run is killed."""
        return f"{self.path}/{file_id:x}.{use}"

    def place(self, aside: str, file_id: int) -> None:
        """Rename a file from this folder to its target."""
        target = self.target(file_id)
        try:
            os.rename(aside, target)
        except FileNotFoundError:
            # Of most files there were others in the folder.
            os.makedirs(target.rpartition("/")[0], exist_ok=True)
            os.rename(aside, target)

    def close(self) -> None:
        """Remove the folder, as far as that can be done."""
        with suppress(OSError):
            self._clear(self.path)
            self.path.rmdir()

    def _begin(self) -> None:
        # The root is there, or its disk is away.
        self._runs.mkdir(exist_ok=True)
        earlier = self._earlier()
        if earlier and not self.path.exists():
            # On a full disk no folder could be made for the run that is to make room.
            self._take_over(earlier.pop())
        self.path.mkdir(exist_ok=True)
        # One of this very fence is of a run whose lease was lost with the power.
        self._clear(self.path)
        for folder in earlier:
            self._end(folder)

    def _earlier(self) -> list[Path]:
        """The folders of the runs with a smaller fence."""
        found = []
        for name in os.listdir(self._runs):
            first, _, number = name.partition(".")
            if first == str(self._ids.start) and number.isdecimal() and int(number) < self._fence:
                found.append(self._runs / name)
        return found

    def _take_over(self, earlier: Path) -> None:
        """Put an end to an earlier run: its folder is this one's from now on."""
        with suppress(FileNotFoundError):
            os.rename(earlier, self.path)
            self.had_predecessor = True

    def _end(self, earlier: Path) -> None:
        """Put an end to an earlier run: its folder is gone at once, what is in it afterwards."""
        ended = self.path / earlier.name
        with suppress(FileNotFoundError):
            os.rename(earlier, ended)
            self.had_predecessor = True
            self._clear(ended)
            ended.rmdir()

    def _clear(self, folder: Path) -> None:
        """Empty the folder of a run that has ended."""
        for name in os.listdir(folder):
            path = folder / name
            digits, _, use = name.partition(".")
            if path.is_dir():
                self._clear(path)
                path.rmdir()
            elif use == "back" and not os.path.lexists(self.target(int(digits, 16))):
                self.place(str(path), int(digits, 16))  # killed before it stood at its source again
            else:
                path.unlink()
