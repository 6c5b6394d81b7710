"""The commands of the program, as it knows them itself."""

from typing import Any

import typer
from typer.core import TyperGroup

from ingest_cli.cli import app


def commands() -> dict[str, Any]:
    """All of them, by their names."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    return dict(top.commands)


def commands_with(option: str) -> set[str]:
    """The names of those that take the option."""
    return {
        name for name, command in commands().items() if any(option in parameter.opts for parameter in command.params)
    }
