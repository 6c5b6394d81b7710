"""Numbers, times, and what comes from outside, put into words for people."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

# No name on a disk is longer than a file system's 255 bytes; those in a tar or a document can be.
MOST_QUOTED = 300
MOST_LISTED = 10
# Longer than any path that a system takes.
MOST_SHOWN = 5000
MOST_KEPT = 64_000
UNITS = {"d": 86_400, "h": 3600, "min": 60}
LONG_AGO = 100 * UNITS["d"]


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``20,000 files``; ``plural`` is the noun's, where it takes more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def number_of(text: str) -> int | None:
    """The number that is written with nothing but up to 18 of the digits 0 to 9; None where it is anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def duration(seconds: float) -> str:
    """A length of time for people to read: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago a moment was, in its largest unit: ``5 min ago``; one of months ago by its date."""
    seconds = (now - moment).total_seconds()
    return f"{moment:%Y-%m-%d}" if seconds >= LONG_AGO else f"{_roughly(max(0.0, seconds))} ago"


def until(moment: datetime, now: datetime) -> str:
    """In how long a moment will be: ``in 5 min``; ``due`` where it has come."""
    seconds = (moment - now).total_seconds()
    return f"in {_roughly(seconds)}" if seconds > 0 else "due"


def _roughly(seconds: float) -> str:
    unit, length = next((item for item in UNITS.items() if seconds >= item[1]), ("s", 1))
    return f"{int(seconds // length)} {unit}"


def timed(line: object) -> str:
    """The line as a process that runs for long writes it: after this moment, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}"


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """``repr(value)``, shortened in its middle where it is long: for a message about what someone else has written."""
    if isinstance(value, str | bytes) and len(value) > most:
        half = most // 2
        unit = "byte" if isinstance(value, bytes) else "character"
        return f"{value[:half]!r}...{value[-half:]!r} ({counted(len(value), unit)})"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def shortened(text: str, most: int, length: int | None = None) -> str:
    """The text, without its middle where it has more than ``most`` characters; with its ``length``, which may be that
    of what it stands for."""
    if len(text) <= most:
        return text
    note = f" ({counted(len(text) if length is None else length, 'character')})"
    half = (most - len(note) - len("...")) // 2
    return f"{text[:half]}...{text[-half:]}{note}"


def printable(text: str, besides: str = "") -> str:
    """The text as a terminal or a log may show it: what is not printable in it is escaped, as ``\\x1b`` is.

    So are the marks that turn the direction of writing, and the bytes of a file name that is not UTF-8; not what is
    one of ``besides``.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in besides else _escaped(char) for char in text)


def one_line(text: object) -> str:
    """The text as one line to be shown: printable throughout, and of a very long one the two ends."""
    whole = str(text)
    shown = printable(whole if len(whole) <= MOST_SHOWN else whole[:MOST_SHOWN] + whole[-MOST_SHOWN:])
    return shortened(shown, MOST_SHOWN, len(whole))


def story(text: str) -> str:
    """The lines of a text as they are kept: each as `one_line` has it, and of very many the first and the last."""
    lines = "\n".join(map(one_line, text.split("\n")))
    return shortened(lines, MOST_KEPT)


def listed(items: Sequence[str], most: int = MOST_LISTED) -> str:
    """``a, b, and 99,990 more``: the first of the items, and how many more there are."""
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])}, and {len(items) - most:,} more"


def as_json(value: object, indent: int | None = None) -> str:
    """The value as JSON of nothing but printable ASCII, and line ends where there is an ``indent``."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")  # which json leaves as it is


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not decode
        return f"\\x{code - 0xDC00:02x}"
    return ascii(char)[1:-1]
