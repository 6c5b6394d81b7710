"""The options that the ``uploader.json`` of a site adds to a command: ``--METAID VALUE`` and ``--METAID-regex RE``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .usage import Command

if TYPE_CHECKING:
    from ..client.questions import Given, Questions

GIVEN = "ingest.given"


class SiteCommand(Command):
    """A command with the options of the site, which are taken from its words before the others are read."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Take the site's options from the words."""
        from ..errors import SettingsError

        self._questions, ctx.meta[GIVEN] = None, {}
        try:
            self._questions = _questions(args)
            if self._questions is not None:
                ctx.meta[GIVEN] = self._take(self._questions, args)
        except (SettingsError, OSError, RuntimeError):
            if not ctx.resilient_parsing:  # while a shell completes the words, nothing can be said of what is wrong
                raise
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list[Any]:  # type: ignore[override]
        """Offer them too."""
        from typer._click.shell_completion import CompletionItem

        found = super().shell_complete(ctx, incomplete)
        known = {item.value for item in found}
        for question in [] if self._questions is None else self._questions.open:
            for name in (f"--{question.name}", f"--{question.name}-regex"):
                if incomplete.startswith("-") and name.startswith(incomplete) and name not in known:
                    found.append(CompletionItem(name, help=question.title))
        return found

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Show them."""
        super().format_epilog(ctx, formatter)
        if self._questions is not None:
            rows = [
                (f"--{question.name}, --{question.name}-regex", question.title) for question in self._questions.open
            ]
            formatter.write_paragraph()
            formatter.write_text(f"Options of {self._questions.path}:")
            with formatter.indentation():
                formatter.write_dl(rows)

    def _take(self, questions: "Questions", args: list[str]) -> "dict[str, Given]":
        from ..client.questions import Given

        own = {spelling for parameter in self.params for spelling in parameter.opts}
        given = {}
        for question in questions.open:
            name = f"--{question.name}"
            value = None if name in own else _take_value(args, name)
            pattern = _take_value(args, f"{name}-regex")
            given[question.name] = Given(value, pattern)
        return given


def given_in(ctx: typer.Context) -> "dict[str, Given]":
    """What was given for the site's options."""
    given: dict[str, Given] = ctx.meta[GIVEN]
    return given


def uploader_config(config: Path | None, given: Path | None) -> Path | None:
    """The ``uploader.json`` that counts: the ``given`` one, else that of the settings, else pacifica-cli's own."""
    from ..client.pacifica_cli import find_uploader_config
    from ..settings.options import UPLOADER_CONFIG
    from .options import values_under

    flags = {UPLOADER_CONFIG: None if given is None else str(given)}
    text = next(value.text for value in values_under(config=config, more=flags) if value.option == UPLOADER_CONFIG)
    return Path(text).expanduser() if text else find_uploader_config()


def _questions(args: list[str]) -> "Questions | None":
    """What the command that has these words is to ask for, before they are understood."""
    from ..client.questions import read_questions
    from ..errors import SettingsError

    config = _value_of(args, "--config") or _value_of(args, "-c")
    given = _value_of(args, "--uploader-config")
    try:
        path = uploader_config(*(None if text is None else Path(text) for text in (config, given)))
        # One that is not there is no trouble of bundles.
        return None if path is None or (given is None and not path.is_file()) else read_questions(path)
    except SettingsError:
        if {"-h", "--help"} & set(args):
            return None
        raise


def _value_of(args: list[str], name: str) -> str | None:
    return _take_value(list(args), name)


def _take_value(args: list[str], name: str) -> str | None:
    """The last value of an option, which is taken from the words. Raises SettingsError where it has none."""
    from ..errors import SettingsError

    found = None
    number = 0
    while number < len(args) and args[number] != "--":
        word, equals, value = args[number].partition("=")
        if word != name:
            number += 1
        elif equals:
            found = value
            del args[number]
        elif number + 1 < len(args):
            found = args[number + 1]
            del args[number : number + 2]
        else:
            raise SettingsError(f"{name} needs a value")
    return found
