"""``ingest bundle.tar``: a first word that is not a command is a bundle, and options may stand before a command."""

import os
from typing import Any

import typer
from typer._click.exceptions import UsageError

from ..errors import SettingsError
from ..text import quoted
from .commands import SUMMARIES, Commands
from .usage import Group, closest, did_you_mean

OWN_OPTIONS = {"-h", "--help", "--version", "--install-completion", "--show-completion"}
DEFAULT = "ingest"
SHORTEST_BEGINNING = 3
EXIT_CODES = [
    ("0", "success"),
    ("1", "a job failed"),
    ("2", "wrong usage or configuration"),
    ("3", "some of several bundles failed"),
    ("4", "a service, a disk or a lock is unavailable, or a job is busy: try again later"),
    ("130", "interrupted"),
]


class IngestGroup(Group):
    """A group of commands whose default is ``ingest``."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Commands()  # type: ignore[assignment]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the command first: one that stands behind its options, or the default where there is none."""
        if args and args[0] not in self.commands and args[0].split("=")[0] not in OWN_OPTIONS:
            args = self._with_command_first(ctx, args)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """What each command does; none of them is imported."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """The exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list[Any]:  # type: ignore[override]
        """Offer the options of the default command too."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            default = self.commands[DEFAULT]
            with default.make_context(DEFAULT, [], parent=ctx, resilient_parsing=True) as context:
                own = {item.value for item in found}
                found += [item for item in default.shell_complete(context, incomplete) if item.value not in own]
        return found

    def _with_command_first(self, ctx: typer.Context, args: list[str]) -> list[str]:
        for number, word in enumerate(args):
            if word == "--":
                break
            if word in self.commands and self._arguments(ctx, word, args[:number]) == []:
                return [word, *args[:number], *args[number + 1 :]]
        if not ctx.resilient_parsing:
            return self._with_default(ctx, args)
        return [DEFAULT, *args]

    def _arguments(self, ctx: typer.Context, name: str, words: list[str]) -> list[str] | None:
        """What of the words are arguments of the command; None where they are not understood."""
        command = self.commands[name]
        parser = command.make_parser(command.context_class(command, info_name=name, parent=ctx))
        try:
            values, extra, _ = parser.parse_args(list(words))
        except UsageError:
            return None
        taken = [values[parameter.name] for parameter in command.params if parameter.param_type_name == "argument"]
        words = [
            word for value in taken if value is not None for word in ([value] if isinstance(value, str) else value)
        ]
        return [*words, *extra]

    def _with_default(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Put the default command first. Raises SettingsError where the first bundle is no file, but nearly the name of
        a command."""
        understood = self._arguments(ctx, DEFAULT, args)
        word = next(iter(args[:1] if understood is None else understood), None)
        if word is None or word.startswith("-") or "--" in args or os.path.lexists(word):
            return [DEFAULT, *args]
        if word in self.commands:  # which has not all of these options, and is to say so
            args.remove(word)
            return [word, *args]
        meant = closest(word.lower(), self.commands)[:1] or self._beginning_with(word)
        if meant:
            raise SettingsError(f"no file and no command {quoted(word)}{did_you_mean(meant)}")
        return [DEFAULT, *args]

    def _beginning_with(self, word: str) -> list[str]:
        found = [name for name in self.commands if name.startswith(word)] if len(word) >= SHORTEST_BEGINNING else []
        return found if len(found) == 1 else []
