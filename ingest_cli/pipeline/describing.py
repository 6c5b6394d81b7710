"""Of whom and what a folder is: who is asked for it, and whose word counts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..bundle.description import IDS, Description, read_description
from ..bundle.folder import DESCRIPTION, FolderRequest
from ..bundle.pack_rules import PackRules
from ..errors import SettingsError
from ..settings import Defaults
from ..settings.options import DEFAULT_INSTRUMENT, DEFAULT_PROJECT, DEFAULT_SUBMITTER

OPTIONS = dict(zip(IDS, (DEFAULT_SUBMITTER, DEFAULT_PROJECT, DEFAULT_INSTRUMENT), strict=True))


def describe(folders: Sequence[Path], given: Description, defaults: Defaults) -> Description:
    """What is said of the first of the folders, each of which lies in the next.

    What is ``given`` goes before the environment, that before the file in the folder, that before those in the others,
    and these before the configuration file. Raises SettingsError.
    """
    description = given.over(defaults.environment)
    for folder in folders:
        description = description.over(read_description(folder))
    return description.over(defaults.file)


def folders_of(paths: Sequence[Path]) -> Sequence[Path]:
    """The folder that says what a bundle of these is: only one that is packed alone."""
    return paths if len(paths) == 1 and paths[0].is_dir() else []


def require_described(description: Description, folder: Path) -> None:
    """Raise SettingsError where something is missing that must be said of the folder, or of the file."""
    missing = description.missing
    if missing:
        flags, variables = [f"--{name}" for name in missing], [OPTIONS[name].variable for name in missing]
        written = f", or write {folder / DESCRIPTION}" if folder.is_dir() else ""
        raise SettingsError(
            f"{folder}: {_and(missing)} not given: give {_and(flags)}, set {_and(variables)} or [defaults] in the"
            f" configuration file{written}"
        )


def request_of(description: Description, rules: PackRules) -> FolderRequest:
    """What is asked for with a folder that has all of this said. Raises SettingsError."""
    rules = replace(rules, exclude=(*description.exclude, *rules.exclude))
    return FolderRequest(records=description.records, rules=rules)


def _and(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
