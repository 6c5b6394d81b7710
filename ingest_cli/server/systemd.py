"""Tells systemd, where it has started this process and wants to know, how far it is (sd_notify)."""

import os
import socket
from contextlib import suppress


def notify_systemd(state: str) -> None:
    """Send a ``state`` such as ``READY=1``, if anyone asked for it. Whether it arrives does not matter."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place.startswith(("/", "@")):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.sendto(state.encode(), socket.MSG_DONTWAIT, place.replace("@", "\0", 1))
