"""The messages of ingest-troubleshooting(7), and where they are provoked."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .bundles import file_record, transaction, write_bundle
from .command import TIME, Command
from .pacifica_double import PacificaSite
from .site import Site

PAGE = (Path(__file__).parents[2] / "man" / "ingest-troubleshooting.7").read_text("utf-8")
# What only an installation of many hosts says is a part of its own, which needs a database to be provoked.
OF_ONE_HOST, _, OF_MANY_HOSTS = PAGE.partition(".Ss Many hosts\n")
PLACEHOLDER = re.compile(r"\*[A-Z]+\*")
# What stands before the message itself: the time, the program, the bundle, and its job where it failed.
PREFIX = rf"(?:{TIME})?ingest: (?:/\S+: (?:job \d+ (?:is deferred: it )?failed at '[\w ]+': )?)?"


def messages_of(text: str) -> list[str]:
    """The messages in a part of the page."""
    return [_message_of(item) for item in re.findall(r"^\.It (.+)$", text, re.M)]


def is_said(message: str, said: str) -> bool:
    """Whether the message is one of the lines."""
    pattern = ".+".join(re.escape(text) for text in PLACEHOLDER.split(message))
    return re.search(rf"^(?:{PREFIX})?{pattern}$", said, re.M) is not None


def _message_of(item: str) -> str:
    """The message in the head of an item of the page, with what is different each time as ``*FILE*``."""
    words, is_variable = "", False
    for word in item.split():
        if word in ("Ar", "No"):
            is_variable = word == "Ar"
        elif word == "Ns":
            words = words.rstrip()
        elif re.fullmatch(r"[]),:;?]", word):
            words = f"{words.rstrip()}{word} "
        else:
            words += f"*{word.upper()}* " if is_variable else f"{word} "
    return words.replace(r"\&", "").rstrip()


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a message is provoked. What a provocation returns is what the program says."""

    command: Command
    site: Site
    folder: Path
    environment: pytest.MonkeyPatch

    def says(self, *words: object, code: int = 1) -> str:
        """What ``ingest`` with these words writes to standard error."""
        done = self.command(*words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr

    def ingest(self, files: dict[str, bytes] | None = None, document: Any = None, code: int = 1, **how: Any) -> str:
        """The same of the ingestion of a bundle."""
        return self.says(write_bundle(self.folder / "b.tar", files, document, **how), code=code)

    def under(self, **variables: str) -> str:
        """The same where these variables are wrong."""
        for name, value in variables.items():
            self.environment.setenv(name, value)
        return self.ingest(code=2)

    def of_a_file(self, **changes: Any) -> str:
        """The same of a bundle with one file, whose record is changed."""
        return self.ingest({"data/a": b"a"}, [*transaction(), file_record("data/a", b"a", **changes)])

    def at(self, server: PacificaSite, *variables: str) -> None:
        """Have the program use a Pacifica site, or only those services of it."""
        for variable, value in server.environment().items():
            if not variables or variable in variables:
                self.environment.setenv(variable, value)

    def move(self, source: Path, code: int = 1) -> str:
        """What is said of moving one file of one byte."""
        document = [*transaction(), file_record("data/a", b"a", source=str(source))]
        (self.folder / "move.json").write_text(json.dumps(document))
        return self.says("move", self.folder / "move.json", code=code)
