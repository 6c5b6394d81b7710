"""Numbers as a line of bars."""

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*#@"


def sparkline(numbers: Sequence[int], *, in_ascii: bool = False) -> str:
    """A bar for each number: the lowest for none, the highest for the largest."""
    bars, most = ASCII_BARS if in_ascii else BARS, max(numbers, default=0)
    steps = len(bars) - 1
    return "".join(bars[-(-number * steps // most)] if most else bars[0] for number in numbers)
