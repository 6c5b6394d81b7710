"""Numbers, times, and what comes from outside, put into words for people."""

from collections.abc import Sequence

# No name on a disk is longer than a file system's 255 bytes; those in a tar or a document can be.
MOST_QUOTED = 300
MOST_LISTED = 10


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``20,000 files``; ``plural`` is the noun's, where it takes more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """A length of time for people to read: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """``repr(value)``, shortened in its middle where it is long: for a message about what someone else has written."""
    if isinstance(value, str | bytes) and len(value) > most:
        half = most // 2
        unit = "byte" if isinstance(value, bytes) else "character"
        return f"{value[:half]!r}...{value[-half:]!r} ({counted(len(value), unit)})"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def shortened(text: str, most: int) -> str:
    """The text, without its middle where it has more than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def printable(text: str) -> str:
    """The text as a terminal or a log may show it: what is not printable in it is escaped, as ``\\x1b`` is.

    So are the marks that turn the direction of writing, and the bytes of a file name that is not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def listed(items: Sequence[str], most: int = MOST_LISTED) -> str:
    """``a, b, and 99,990 more``: the first of the items, and how many more there are."""
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])}, and {len(items) - most:,} more"


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not decode
        return f"\\x{code - 0xDC00:02x}"
    return ascii(char)[1:-1]
