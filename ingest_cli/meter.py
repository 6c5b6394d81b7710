"""Who is told how far a piece of work is, such as a progress display."""

from types import TracebackType
from typing import Self


class Meter:
    """Is told how far a piece of work is. This one does nothing; subclasses override what they show.

    It looks on for as long as a ``with`` block lasts.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def stage(self, task: str) -> None:
        """It comes to this part of the work."""

    def plan(self, files: int, total_bytes: int) -> None:
        """So many files, of so many bytes together, are to be gone through in this part."""

    def part(self, task: str) -> None:
        """It goes on in this part with what is called so."""

    def advance(self, length: int, files: int = 0) -> None:
        """So many more bytes, and whole files, were gone through."""


NOBODY = Meter()
