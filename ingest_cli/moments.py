"""Moments as people write them: ``2h``, ``3d``, ``monday``, ``yesterday``, ``2026-11-28 14:30``."""

import re
from datetime import datetime, time, timedelta

from .errors import SettingsError
from .text import quoted

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
PART = r"([0-9]{1,9}) *(seconds?|sec|s|minutes?|min|m|hours?|h|days?|d|weeks?|w) *"
EXAMPLES = "'2h', '3d', 'yesterday', 'monday' or '2026-11-28 14:30'"


def moment(text: str, now: datetime) -> datetime:
    """The moment that is meant, as seen from ``now``, whose zone counts where the text names none.

    ``2h`` and ``1d 12h`` are so long ago; a day, by its name or its date, begins at midnight, and a time is today's.
    The name of a day is its last one, which may be today. Raises SettingsError.
    """
    words = text.strip().lower()
    try:
        found = _named(words, now) or _ago(words.removesuffix("ago"), now) or _written(text.strip(), now)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{quoted(text)} is not a time; write it as {EXAMPLES}") from error
    return found


def _named(words: str, now: datetime) -> datetime | None:
    midnight = datetime.combine(now, time(), now.tzinfo)
    if words in ("now", "today", "yesterday"):
        return {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}[words]
    days = [number for number, day in enumerate(DAYS) if words in (day, day[:3])]
    return midnight - timedelta(days=(now.weekday() - days[0]) % 7) if days else None


def _ago(words: str, now: datetime) -> datetime | None:
    if not re.fullmatch(f"({PART})+", words):
        return None
    return now - timedelta(seconds=sum(int(number) * SECONDS[unit[0]] for number, unit in re.findall(PART, words)))


def _written(text: str, now: datetime) -> datetime:
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
        hour, minute, second = map(int, f"{text}:0".split(":")[:3])
        return datetime.combine(now, time(hour, minute, second), now.tzinfo)
    found = datetime.fromisoformat(text)
    # In the same zone as all else: what no calendar has there is no time either.
    return found.replace(tzinfo=now.tzinfo) if found.tzinfo is None else found.astimezone(now.tzinfo)
