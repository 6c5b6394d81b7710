"""How commands show their usage: arguments by their names alone, as manual pages show them."""

from typing import Any

from typer.core import TyperArgument, TyperCommand


class Argument(TyperArgument):
    """An argument that is shown without the Python type of its value."""

    def display_type_rich(self, ctx: Any) -> str | None:
        """Nothing is shown."""
        return None

    def _usage_display_name(self) -> str:
        name = self.display_name_raw if self.required else f"[{self.display_name_raw}]"
        return f"{name}..." if self.nargs != 1 else name


class Command(TyperCommand):
    """A command whose arguments are shown so."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.__class__ = Argument
