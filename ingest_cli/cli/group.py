"""``ingest bundle.tar``: a first word that is no command is a bundle."""

import typer
from typer.core import TyperGroup

OWN_OPTIONS = {"-h", "--help", "--version", "--install-completion", "--show-completion"}


class IngestGroup(TyperGroup):
    """A group of commands whose default is ``ingest``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the default command before arguments that name none."""
        if args and args[0] not in self.commands and args[0].split("=")[0] not in OWN_OPTIONS:
            args = ["ingest", *args]
        return super().parse_args(ctx, args)
