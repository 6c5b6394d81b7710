"""Which folders a command ingests or packs, and what is said of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from .. import api
from ..bundle.description import Description, read_description
from ..bundle.folder import FolderRequest
from ..bundle.pack_rules import PackRules
from ..errors import SettingsError
from ..pipeline.describing import describe, request_of, require_described
from ..pipeline.submission import FolderSource
from ..settings import Defaults, Settings
from .folder_questions import Asking
from .output import warn


class Folders:
    """Finds out what is to be done with folders: what is ``given`` on the command line is said of each of them.

    ``settings`` may be None where nothing is left for them to say.
    """

    def __init__(self, given: Description, rules: PackRules, settings: Settings | None) -> None:
        self._given, self._rules, self._settings = given, rules, settings
        self._defaults = Defaults() if settings is None else settings.defaults
        self._asking = Asking(partial(api.last_ids, settings=settings))

    def sources(self, folder: Path, *, each: bool) -> Iterator[FolderSource]:
        """The folder, or ``each`` folder in it. Raises SettingsError where something is not said of it."""
        if not each or not folder.is_dir():
            yield FolderSource(folder, self.request(folder, [folder]))
            return
        rules = replace(self._rules, exclude=(*read_description(folder).exclude, *self._rules.exclude))
        parts, warnings = api.folders_in(folder, rules, settings=self._settings)
        for warning in warnings:
            warn(f"{folder}: {warning}")
        if not parts:
            raise SettingsError(f"{folder}: there is no folder in it, and --each is of those")
        for part in parts:
            yield FolderSource(part, self.request(part, [part, folder]))

    def request(self, path: Path, folders: Sequence[Path]) -> FolderRequest:
        """What is asked for with what is at ``path``; the folders, each of which lies in the next, may say more."""
        description = describe(folders, self._given, self._defaults)
        if description.missing:  # what is known of it already need not be said again
            description = description.over(api.ids_of(path, settings=self._settings))
        description = self._asking.complete(description)
        require_described(description, path)
        return request_of(description, self._rules)
