"""Which screen shows an upload, by the flags and the terminal."""

import sys

from ..client.observer import UploadObserver
from .display import can_be_drawn_on
from .options import RunOutput
from .upload_screens import JsonUpload, PlainSending, PlainUpload, QuietUpload


def upload_screen_for(options: RunOutput, name: str, number: int = 1, count: int = 1) -> UploadObserver:
    """The screen of the ``number``th of ``count`` items, which has this name."""
    if options.json:
        return JsonUpload(name)
    if options.quiet:
        return QuietUpload(name)
    if not can_be_drawn_on(sys.stderr):
        return PlainUpload(name, PlainSending(name))
    from .upload_live import LiveSending

    return PlainUpload(name, LiveSending(name, number, count))
