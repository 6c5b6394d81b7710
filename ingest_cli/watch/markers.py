"""Markers: with ``--marker``, a file NAME is complete once there is a file NAME.done."""

from pathlib import Path

from ..bundle.fingerprint import fingerprint_of
from .rules import MARKER


class Markers:
    """The markers in ``folder``, or none where they are not ``wanted``: then every file counts as marked.

    Each counts once: one that has stayed says nothing of a later file of the same name.
    """

    def __init__(self, folder: Path, *, wanted: bool) -> None:
        self._folder, self._wanted = folder, wanted
        self._spent: dict[str, str] = {}

    def subject_of(self, name: str) -> str:
        """The name of the file that may be another matter if there is something new of ``name``."""
        return name.removesuffix(MARKER) if self._wanted else name

    def is_set(self, name: str) -> bool:
        """Whether there is a marker of the file that was not spent."""
        if not self._wanted:
            return True
        try:
            return fingerprint_of(self._path(name).lstat()) != self._spent.get(name)
        except OSError:
            return False

    def spend(self, name: str) -> None:
        """Remove the file's marker; where that is not possible, have it not count again."""
        if not self._wanted:
            return
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError:
            self._spent[name] = fingerprint_of(self._path(name).lstat())

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{MARKER}"
