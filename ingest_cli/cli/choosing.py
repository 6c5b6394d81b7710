"""Asks at the terminal which of several values is meant."""

import sys
from typing import Any

from ..client.questions import Choice, Question
from ..errors import SettingsError
from ..text import listed, printable
from .output import mention

PROMPT = "{} [{}]: "


def choose(question: Question, choices: list[Choice]) -> Any:
    """The value that a person chooses. Raises SettingsError where there is nobody to ask."""
    first = choices[0].value
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise SettingsError(f"--{question.name} is needed ({question.title}): one of {_names(choices)}")
    mention(f"{question.title}:")
    for choice in choices:
        mention(f"  {choice.value}  {choice.shown}" if choice.shown != str(choice.value) else f"  {choice.shown}")
    values = [str(choice.value) for choice in choices]
    while True:
        print(PROMPT.format(question.name, printable(str(first))), end="", file=sys.stderr, flush=True)
        typed = sys.stdin.readline()
        if not typed:
            raise SettingsError(f"--{question.name} is needed ({question.title})")
        if not typed.strip():
            return first
        if typed.strip() in values:
            return typed.strip()
        mention(f"{typed.strip()!r} is none of them")


def _names(choices: list[Choice]) -> str:
    return listed([str(choice.value) for choice in choices])
