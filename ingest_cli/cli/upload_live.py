"""An upload on a terminal."""

from .live import LiveScreen
from .upload_screens import Sending


class LiveSending(Sending, LiveScreen):
    """Two lines that are redrawn while it is packed and sent, and while its job runs."""

    def _counts(self) -> list[str]:
        return ["", *super()._counts()]  # there are no files to be counted
