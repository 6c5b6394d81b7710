"""Asks at the terminal for what must be said of a folder, with what was said last as the answer that is at hand."""

from collections.abc import Callable
from functools import partial

from ..bundle.description import Description
from ..errors import SettingsError
from ..settings import Ids
from ..text import printable
from .asking import is_attended, prompt

HEAD = "Of whom and what is it? (options, [defaults] or .ingest.json say it too)"
PROMPT = "{}'s id [{}]: "
PLAIN_PROMPT = "{}'s id: "


class Asking:
    """Asks a person for what is missing of descriptions: once, be it of many folders.

    ``last`` finds what was said the last time.
    """

    def __init__(self, last: Callable[[], Ids]) -> None:
        self._last = last
        self._answers = Ids()

    def complete(self, description: Description) -> Description:
        """The description with the person's answers; as it is where there is nobody to ask."""
        description = description.over(self._answers)
        missing = description.missing
        if not missing or not is_attended():
            return description
        last = self._last()
        mention(HEAD)
        answers = {name: _ask(name, getattr(last, name)) for name in missing}
        self._answers = Description(**answers).over(self._answers)  # type: ignore[arg-type]
        return description.over(self._answers)


def _ask(name: str, last: int | str | None) -> int | str:
    text = PLAIN_PROMPT.format(name) if last is None else PROMPT.format(name, printable(str(last)))
    return prompt(text, partial(_read, name, last))


def _read(name: str, last: int | str | None, answer: str) -> int | str:
    if not answer and last is not None:
        return last
    if answer and name == "project":
        return answer
    if answer.isascii() and answer.isdigit() and len(answer) < 19:
        return int(answer)
    raise SettingsError(f"the {name} is a number" if answer else f"the {name} is needed")
