"""The commands by their names, each imported when it is asked for: most runs need one of them."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer

from .site_options import SiteCommand
from .usage import Command

# The first sentence of each one's help, in the order in which they are listed.
SUMMARIES = {
    "ingest": "Check bundles and folders and store them.",
    "check": "Report every problem in bundles without storing anything.",
    "move": "Check files on a disk and move them into the archive.",
    "state": "Show the state of jobs, or of the newest ones.",
    "job": "Set the state of a job by hand, or its priority.",
    "hosts": "List hosts, what runs there, and the jobs at work.",
    "retry": "Run failed or interrupted jobs again.",
    "discard": "Abandon jobs that are not complete.",
    "cancel": "Cancel jobs that are waiting or running.",
    "worker": "Run queued jobs, and those whose process died.",
    "pack": "Pack files and folders into a bundle.",
    "upload": "Send bundles, files and folders to a server.",
    "watch": "Ingest whatever is put into drop folders.",
    "serve": "Receive bundles over HTTP, as Pacifica Ingest does.",
    "verify": "Verify that the archive still holds what was stored.",
    "ls": "List the files of a stored job.",
    "find": "Find stored files, or say which local files are stored.",
    "cat": "Write the content of stored files to standard output.",
    "restore": "Restore a stored job, or some files of it.",
    "events": "List events, or send them.",
    "stats": "Count jobs, files and bytes, and the reasons for failures.",
    "prune": "Remove old jobs, events and orphaned spool files.",
    "backup": "Back up the job store, the catalogue and the ids.",
    "skip-ids": "Give out no id again, once a backup is restored.",
    "migrate-store": "Move the job store, the catalogue and the ids to another place.",
    "import-jobs": "Import the states of Pacifica Ingest's jobs.",
    "doctor": "Check that everything a job needs works.",
    "deploy": "Print files for systemd, containers or many hosts.",
    "help": "Show the manual page of a command or topic.",
    "config": "Show the settings, their values and where they come from.",
}


class Commands(Mapping[str, Any]):
    """The commands as typer makes them."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in SUMMARIES:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = _make(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in SUMMARIES

    def __iter__(self) -> Iterator[str]:
        return iter(SUMMARIES)

    def __len__(self) -> int:
        return len(SUMMARIES)


def _make(name: str) -> Any:
    word = name.replace("-", "_")
    module = import_module(f"{__package__}.{word}")
    if hasattr(module, "app"):  # a group
        return typer.main.get_command(module.app)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(cls=SiteCommand if name == "upload" else Command)(getattr(module, word))
    return typer.main.get_command(alone)
