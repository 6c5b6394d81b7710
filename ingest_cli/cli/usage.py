"""How commands show what they take, and what is said where a command line is not understood."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

import typer
from typer._click.exceptions import BadOptionUsage, MissingParameter, NoArgsIsHelpError, NoSuchOption, UsageError
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from ..errors import SettingsError
from ..text import quoted
from .help_text import HelpText

# How alike two words are, of 1.0, where one may be meant by the other.
ALIKE = 0.7


def _as_given(self: Any, ctx: Any, value: Any) -> Any:
    """The value of a parameter: a word, several of them, or none. Raises MissingParameter.

    What they mean is found out by `values`. Typer would import pydantic to make text of text.
    """
    if value is None and (self.multiple or self.nargs == -1):
        value = ()
    if self.required and self.value_is_missing(value):
        raise MissingParameter(ctx=ctx, param=self)
    return value if self.callback is None else self.callback(ctx, self, value)


class Option(TyperOption):
    """An option, whose value typer leaves as it is given."""

    process_value = _as_given


class Argument(TyperArgument):
    """An argument that is shown without the Python type of its value, which typer leaves as it is given."""

    process_value = _as_given

    def display_type_rich(self, ctx: Any) -> str | None:
        """Nothing is shown."""
        return None

    def _usage_display_name(self) -> str:
        name = self.display_name_raw if self.required else f"[{self.display_name_raw}]"
        return f"{name}..." if self.nargs != 1 else name


class Command(TyperCommand):
    """A command whose help fits the window, and which says in a sentence what it does not understand."""

    allow_extra_args = True  # so that it is we who say that there are too many

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """Its parameters."""
        return _ours(super().get_params(ctx))

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Take the words apart. Raises SettingsError."""
        is_for_programs = "--json" in args and not ctx.resilient_parsing
        try:
            left = super().parse_args(ctx, args)
        except UsageError as error:
            raise self._refused(_sentence(error, ctx), ctx, is_for_programs) from None
        if left and not ctx.resilient_parsing:
            raise self._refused(_too_many(self, left[0], ctx), ctx, is_for_programs)
        return left

    def _refused(self, sentence: str, ctx: typer.Context, is_for_programs: bool) -> SettingsError:
        error = _hinting(sentence, ctx)
        if is_for_programs:
            from .failures import tell_programs

            tell_programs((self.name or "").replace("-", "_"), {}, error)
        return error

    def get_help(self, ctx: typer.Context) -> str:  # type: ignore[override]
        """The help, as wide as the window."""
        return _help_of(self, ctx)


class Group(TyperGroup):
    """A group of such commands."""

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        """Its parameters."""
        return _ours(super().get_params(ctx))

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Take the words apart, as far as they are the group's. Raises SettingsError."""
        try:
            return super().parse_args(ctx, args)
        except NoArgsIsHelpError:
            raise
        except UsageError as error:
            raise _explained(error, ctx) from None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The command that is meant. Raises SettingsError."""
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            meant = did_you_mean(closest(name, self.commands)[:1])
            raise _hinting(f"{_name(ctx)} has no command {quoted(name)}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def get_help(self, ctx: typer.Context) -> str:  # type: ignore[override]
        """The help, as wide as the window."""
        return _help_of(self, ctx)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """What each command does, to the end of the sentence."""
        rows = [(name, (command.help or "").partition("\n\n")[0]) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _ours(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        parameter.__class__ = Argument if isinstance(parameter, TyperArgument) else Option
    return parameters


def _help_of(command: Any, ctx: typer.Context) -> str:
    text = HelpText()
    command.format_help(ctx, text)
    return text.getvalue()


def _explained(error: UsageError, ctx: typer.Context) -> SettingsError:
    """What is said for typer's own error."""
    return _hinting(_sentence(error, ctx), ctx)


def closest(word: str, names: Iterable[str]) -> list[str]:
    """Those of the names, the best first, that may be meant by a word that is none of them."""
    likeness = {name: SequenceMatcher(None, name, word).ratio() for name in names}
    return sorted((name for name in likeness if likeness[name] >= ALIKE), key=lambda name: -likeness[name])


def _sentence(error: UsageError, ctx: typer.Context) -> str:
    if isinstance(error, MissingParameter) and error.param is not None:
        parameter: Any = error.param
        what = " ".join(filter(None, [max(parameter.opts, key=len), parameter.metavar]))
        return f"{_name(ctx)} needs {parameter.metavar if isinstance(parameter, TyperArgument) else what}"
    if isinstance(error, NoSuchOption):
        known = [spelling for parameter in ctx.command.params for spelling in parameter.opts if spelling[0] == "-"]
        meant = closest(error.option_name, known)
        return f"{_name(ctx)} has no option {quoted(error.option_name)}{did_you_mean(meant[:1])}"
    if isinstance(error, BadOptionUsage):
        option = next((option for option in ctx.command.params if error.option_name in option.opts), None)
        if option is None or getattr(option, "is_flag", False) or getattr(option, "count", False):
            return f"{error.option_name} takes no value"
        return f"{error.option_name} needs a value: {error.option_name} {option.metavar}"
    return f"{_name(ctx)} does not understand this: {error.format_message()}"


def did_you_mean(names: list[str]) -> str:
    """The end of a sentence that says what may be meant; empty where nothing is near."""
    return f"; did you mean {' or '.join(map(repr, names))}?" if names else ""


def _too_many(command: Command, word: str, ctx: typer.Context) -> str:
    arguments = [parameter.metavar for parameter in command.params if isinstance(parameter, TyperArgument)]
    takes = f"takes only {' and '.join(map(str, arguments))}" if arguments else "takes only options"
    return f"{_name(ctx)} {takes}: {quoted(word)} is too much"


def _name(ctx: typer.Context) -> str:
    """The command as it is called; the default one by the program's name alone."""
    return repr(ctx.command_path.replace("ingest ingest", "ingest"))


def _hinting(sentence: str, ctx: typer.Context) -> SettingsError:
    error = SettingsError(sentence)
    error.add_note(f"'{ctx.command_path} --help' says what it takes")
    return error
