"""What a client calls the bundle that it sends: people know its job by that, and nothing else depends on it."""

import re
from base64 import b64decode
from email.message import Message

from starlette.requests import Request

from ..text import printable, shortened

NAMELESS = "HTTP upload"
LONGEST_NAME = 255
# The keys that clients of tus use.
KEYS = ("filename", "name")


def name_in(request: Request) -> str:
    """The file's name in a Content-Disposition (RFC 6266), if there is one."""
    message = Message()
    message["Content-Disposition"] = request.headers.get("content-disposition", "")
    try:
        return _usable(message.get_filename("") or "")
    except Exception:  # noqa: BLE001 - it stumbles over some encodings in many ways, and no bundle is lost for its name
        return NAMELESS


def name_of(metadata: str) -> str:
    """The file's name in what a client of tus has said of an upload, if it is there."""
    pairs = dict(pair.strip().partition(" ")[::2] for pair in metadata.split(","))
    encoded = next((pairs[key] for key in KEYS if key in pairs), "")
    try:
        return _usable(b64decode(encoded).decode(errors="replace"))
    except ValueError:
        return NAMELESS


def _usable(given: str) -> str:
    """The last part of what may be a path of any system."""
    return shortened(printable(re.split(r"[/\\]", given.strip())[-1]), LONGEST_NAME) or NAMELESS
