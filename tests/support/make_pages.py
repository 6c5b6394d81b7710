"""Makes the sections SYNOPSIS and OPTIONS of the commands' manual pages from the commands themselves.

Run ``python -m tests.support.make_pages`` after a change of an option; the rest of a page is written by hand.
"""

import re
import textwrap
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from .commands import commands as top_commands

MAN = Path(__file__).parents[2] / "man"
# Those that most commands have. The page ingest(1) explains them.
SHARED = ("--config", "--db", "--user", "--json", "--quiet", "--verbose", "--debug")


def commands() -> dict[str, Any]:
    """The commands by their names, which are two words for one of a group."""
    top = top_commands()
    groups = {name: command for name, command in top.items() if isinstance(command, TyperGroup)}
    inner = {f"{name} {word}": command for name, group in groups.items() for word, command in group.commands.items()}
    return top | inner


def page_of(name: str) -> Path:
    """The page of a command."""
    return MAN / f"ingest-{name.replace(' ', '-')}.1"


def with_made_sections(text: str, name: str) -> str:
    """The text of a command's page, with the sections that are made from the command."""
    command = commands()[name]
    for title, section in (("SYNOPSIS", synopsis(name, command)), ("OPTIONS", options(command))):
        text, count = re.subn(
            rf"^\.Sh {title}\n.*?(?=^\.Sh )",
            lambda _, lines=(f".Sh {title}", *section): "".join(f"{line}\n" for line in lines),  # type: ignore[misc]
            text,
            flags=re.M | re.S,
        )
        assert count == 1, f"the page of {name} has no section {title}"
    return text


def synopsis(name: str, command: Any) -> list[str]:
    """How the command is called: its own options, the shared ones, its arguments."""
    own, shared, arguments = _parameters(command)
    lines = [".Nm ingest Cm " + name]
    for option in own + shared:
        call = " ".join(filter(None, [f"Fl {_flag(_long(option))}", _value(option)]))
        lines.append(f".{call}" if option.required else f".Op {call}")
    for argument in arguments:
        value = _value(argument) + (" ..." if argument.nargs == -1 else "")
        lines.append(f".{value}" if argument.required else f".Op {value}")
    return lines


def options(command: Any) -> list[str]:
    """What the command's own options do, and which of the shared ones it has."""
    own, shared, _ = _parameters(command)
    lines = []
    if own:
        lines.append(".Bl -tag -width Ds")
        for option in own:
            lines.append(f".It {_spellings(option)}")
            lines += _sentences(option.help)
            if option.default is not None and not option.is_flag and not option.required and not option.count:
                lines += _default(option.default)
        lines += [".El", ".Pp"]
    names = [option.opts[0] for option in shared] + ["--help"]
    also = f"{'It also has' if own else 'It has'} the common option{'s' if shared else ''}"
    lines += [also, *_listed(names), "as described in", ".Xr ingest 1 ."]
    return lines


def _parameters(command: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """A command's own options, those that it shares with others, and its arguments."""
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    named = [option for option in options if not option.hidden]
    # One of the same name may be another: `state --user` chooses jobs.
    usual = {option.opts[0]: option.help for option in commands()["ingest"].params if option.opts[0] in SHARED}
    shared = [option for option in named if usual.get(option.opts[0]) == option.help]
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    return [option for option in named if option not in shared], shared, arguments


def _long(option: Any) -> str:
    return str(max(option.opts, key=len))


def _flag(spelling: str) -> str:
    return spelling.removeprefix("-")


def _spellings(option: Any) -> str:
    """Short ones first, as in ``Fl o , Fl -output Ar file``."""
    flags = " , ".join(f"Fl {_flag(spelling)}" for spelling in sorted(option.opts, key=len))
    return " ".join(filter(None, [flags, _value(option)]))


def _value(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
        return ""
    return f"Ar {parameter.metavar.lower()}"


def _default(value: str) -> list[str]:
    return [] if value in ("", "0") else ["The default is", f".Li {value} ."]


def _listed(names: list[str]) -> list[str]:
    *first, last = [f"Fl {_flag(name)}" for name in names]
    return [f".{' , '.join(first)}", "and", f".{last} ,"] if first else [f".{last} ,"]


def _sentences(text: str) -> list[str]:
    """A help text as mdoc: a sentence a line, and what stands in quotes as literals."""
    variable = re.search(r" \[env: (\w+)\]\.$", text)
    text = text.removesuffix(variable[0]) + "." if variable else text
    text = text.replace("\\", "\\e")
    text = re.sub(r" ?(?<!\w)'([^']+)'([.,:;]?) ?", lambda found: f"\n.Ql {found[1]} {found[2]}".rstrip() + "\n", text)
    text = re.sub(r"([.;:]) (?=[A-Z])", r"\1\n", text).strip()
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, 78)]
    if variable:
        lines[-1] = lines[-1].removesuffix(".")
        lines.append(f".Pq Ev {variable[1]} .")
    return lines


def main() -> None:
    """Rewrite the pages."""
    for name in commands():
        page = page_of(name)
        page.write_text(with_made_sections(page.read_text("utf-8"), name), "utf-8")


if __name__ == "__main__":
    main()
