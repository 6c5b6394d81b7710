"""What comes over HTTP on its way into the spool, wherever that is."""

from typing import Protocol, Self


class Incoming(Protocol):
    """What requests write into the spool. It is one request's own for as long as a ``with`` block lasts.

    Unless `keep` was called, a new one is gone then. Raises SourceError where the spool cannot be written, NoRoom where
    it has too little room, Locked where another request has it by now, and ResourceUnavailable for what else may pass.
    """

    @property
    def source(self) -> str:
        """What a job knows it by."""

    @property
    def length(self) -> int:
        """How many bytes it holds."""

    def __enter__(self) -> Self:
        """Return it."""

    def __exit__(self, *_: object) -> None:
        """Let go of it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``."""

    def cut(self, length: int) -> None:
        """Forget, durably, what was written beyond its first ``length`` bytes."""

    def sync(self) -> None:
        """Return when what was written would survive a loss of power."""

    @property
    def is_kept(self) -> bool:
        """Whether it stays at the end of the block."""

    def keep(self) -> None:
        """Leave it at the end of the block: a job owns it, or is about to."""

    def drop(self) -> None:
        """Remove it at the end of the block after all."""

    def fingerprint(self) -> str:
        """By what a run knows that it is the same still."""

    def entered_as(self, job_id: int) -> int:
        """The id under which its job is to be entered: this one, unless another was noted before."""
