"""Of whom and what a folder is: who is asked for it, and whose word counts."""

from pathlib import Path

from ..bundle.description import IDS, Description, read_description
from ..bundle.folder import DESCRIPTION, FolderRequest
from ..bundle.pack_rules import PackRules
from ..errors import SettingsError
from ..settings import Settings
from ..settings.options import DEFAULT_INSTRUMENT, DEFAULT_PROJECT, DEFAULT_SUBMITTER

OPTIONS = dict(zip(IDS, (DEFAULT_SUBMITTER, DEFAULT_PROJECT, DEFAULT_INSTRUMENT), strict=True))


def describe(folders: list[Path], given: Description, settings: Settings) -> Description:
    """What is said of the first of the folders, each of which lies in the next.

    What is ``given`` goes before the environment, that before the file in the folder, that before those in the others,
    and these before the configuration file. Raises SettingsError.
    """
    description = given.over(settings.defaults.environment)
    for folder in folders:
        description = description.over(read_description(folder))
    return description.over(settings.defaults.file)


def require_described(description: Description, folder: Path) -> None:
    """Raise SettingsError where something is missing that must be said of the folder."""
    missing = description.missing
    if missing:
        flags, variables = [f"--{name}" for name in missing], [OPTIONS[name].variable for name in missing]
        raise SettingsError(
            f"{folder}: {_and(missing)} not given: give {_and(flags)}, set {_and(variables)} or [defaults] in the"
            f" configuration file, or write {folder / DESCRIPTION}"
        )


def request_of(description: Description, rules: PackRules) -> FolderRequest:
    """What is asked for with a folder that has all of this said. Raises SettingsError."""
    exclude = (*description.exclude, *rules.exclude)
    return FolderRequest(
        records=description.records,
        rules=PackRules(
            exclude=exclude,
            default_excludes=rules.default_excludes,
            skip_special=rules.skip_special,
            dereference=rules.dereference,
        ),
    )


def _and(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
