"""An upload on a terminal."""

from .live import LiveScreen
from .screens import Once


class LiveSending(Once, LiveScreen):
    """Two lines that are redrawn while it is packed and sent, and while its job runs."""

    def _counts(self) -> list[str]:
        return ["", *super()._counts()]  # there are no files to be counted
