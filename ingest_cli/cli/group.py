"""``ingest bundle.tar``: a first word that is not a command is a bundle."""

from typing import Any

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

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list[Any]:  # type: ignore[override]
        """Offer the options of the default command too."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            default = self.commands["ingest"]
            with default.make_context("ingest", [], parent=ctx, resilient_parsing=True) as context:
                own = {item.value for item in found}
                found += [item for item in default.shell_complete(context, incomplete) if item.value not in own]
        return found
