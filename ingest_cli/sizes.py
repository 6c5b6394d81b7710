"""Numbers of bytes as people read them."""


def in_words(count: float) -> str:
    """``count`` bytes in the largest decimal unit that fits: 1500 is "1.5 kB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
