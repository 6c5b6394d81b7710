"""Observers of uploads, such as a progress display."""

from typing import Any

from ..errors import IngestError
from ..meter import Meter

# What a server answers to "get_state".
State = dict[str, Any]


class UploadObserver(Meter):
    """Is told what happens to an upload. This one does nothing; subclasses override what they show.

    It observes for as long as a ``with`` block lasts.
    """

    def packing(self) -> None:
        """Files are packed into a bundle: how far that is, a meter is told."""

    def sending(self, size: int, sent: int) -> None:
        """A bundle of this size is to be sent, of which so much is at the server already."""

    def sent(self, length: int) -> None:
        """So many more bytes were sent."""

    def retrying(self, error: IngestError, seconds: float) -> None:
        """Something failed for now, and is tried again after so many seconds."""

    def waiting(self, state: State) -> None:
        """The server has made a job of the bundle, which is now in this state."""

    def warn(self, message: str) -> None:
        """A warning for a person."""

    def accepted(self, state: State) -> None:
        """The upload is done: the server has made a job of it, which is not waited for."""

    def settled(self, state: State) -> None:
        """The upload is done: the job has ended, or has been waited for long enough."""

    def failed(self, error: IngestError) -> None:
        """The upload ended with this error."""
