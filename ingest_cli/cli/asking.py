"""Asks whoever sits at the terminal, on standard error."""

import sys
from collections.abc import Callable
from typing import TypeVar

from ..errors import IngestError, Interrupted
from ..text import printable
from .output import mention

T = TypeVar("T")


def is_attended() -> bool:
    """Whether there is somebody to ask."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def ask(question: str, proposal: str, read: Callable[[str], T]) -> T:
    """The answer as ``read`` understands it, or what it makes of the ``proposal`` where nothing is typed.

    What ``read`` raises is shown, and the question asked again. Raises Interrupted at the end of the input.
    """
    return prompt(f"{printable(question)}\n  [{printable(proposal)}] ", lambda typed: read(typed or proposal))


def prompt(text: str, read: Callable[[str], T]) -> T:
    """The answer to the prompt as ``read`` understands it, else as `ask` does."""
    while True:
        print(text, end="", file=sys.stderr, flush=True)
        typed = sys.stdin.readline()
        if not typed:
            mention("")
            raise Interrupted("nothing was typed: nothing is done")
        try:
            return read(typed.strip())
        except IngestError as error:
            for line in error.lines:
                mention(f"  {line}")


def ask_whether(question: str, *, proposal: bool) -> bool:
    """Whether the answer is yes."""
    proposed = "yes" if proposal else "no"
    return prompt(f"{printable(question)} [{proposed}] ", lambda typed: _yes_or_no(typed or proposed))


def _yes_or_no(text: str) -> bool:
    from ..errors import SettingsError

    for answer, word in ((True, "yes"), (False, "no")):
        if word.startswith(text.lower()):
            return answer
    raise SettingsError(f"{text!r} is neither yes nor no")
