"""Rates, as people write them for rsync and curl."""

import re

from ..errors import SettingsError

# A server does not wait for longer than a minute for the next bytes.
SMALLEST_RATE = 1000
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def rate_of(text: str | None) -> float | None:
    """The bytes a second of ``--limit-rate``, None where it is not given. Raises SettingsError."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,12}(?:\.\d+)?)((?:[kmg]i?)?)b?(?:/s)?", text.strip(), re.IGNORECASE)
    rate = float(found[1]) * UNITS[found[2].lower()] if found else 0.0
    if rate < SMALLEST_RATE:
        raise SettingsError(f"--limit-rate {text!r} is not a number of bytes a second from 1k, such as 500k or 5M")
    return rate
