"""Files that have the program run permanently, filled in for a site: units, those of an image, and those of many hosts.

They are templates beside this file, in which ``{{name}}`` stands for what differs.
"""

import json
import re
import sys
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..settings import Settings, Value
from ..settings.options import (
    ACCESS,
    DATABASE,
    DATABASE_URL,
    HOST,
    MOVE_FROM,
    NOTIFICATIONS_COMMAND,
    PLACES,
    S3_ADDRESSING,
    S3_CA_FILE,
    S3_ENDPOINT,
    S3_KEY_ID,
    S3_REGION,
    S3_SECRET,
    S3_TOKEN,
    SERVER_TOKEN,
    SHARED,
    SHARED_SPOOL,
    UPLOADER_CONFIG,
    UPLOADS,
    VOLUME_PATH,
    WATCH_DONE,
    WATCH_FOLDERS,
    Option,
)

# Stands in each unit, and is none.
COMMON = "common"


class Kind(StrEnum):
    """What the files are for."""

    SYSTEMD = "systemd"
    CONTAINER = "container"
    CLUSTER = "cluster"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What runs permanently: the ``program`` with its arguments, as the user ``run_as``, under these settings.

    ``config`` is the configuration file, None where there is none.
    """

    settings: Settings
    config: Path | None
    program: tuple[str, ...]
    run_as: str

    @property
    def folders(self) -> list[Path]:
        """The folders that are written to, none of them within another."""
        settings = self.settings
        places = (settings.database, settings.unique_id, settings.catalog)
        folders = {settings.spool, *(place.parent for place in places if isinstance(place, Path))}
        folders |= {*settings.watch.folders, *settings.server.move_from}
        folders |= {place for place in (settings.archive, settings.watch.done) if isinstance(place, Path)}
        folders = {_without_dots(folder) for folder in folders}
        return sorted(folder for folder in folders if not folders & {*folder.parents})

    @property
    def unwritten(self) -> list[Option]:
        """What is set by the environment and must not stand in a file that others can read."""
        return [
            value.option for value in self._of_the_environment() if value.option.secret or value.shown != value.text
        ]

    def environment(self) -> dict[str, str]:
        """What units have to be told, because it does not stand in the configuration file."""
        told = {} if self.config is None else {"INGEST_CONFIG": str(self.config)}
        places, unnamed = {VOLUME_PATH: str(self.settings.spool)}, {*PLACES}
        if isinstance(self.settings.database, Path):
            places[DATABASE] = str(self.settings.database)
        else:
            # A variable would outdo the database that the file names.
            unnamed -= {DATABASE}
        for value in self.settings.values:
            if value.option in unnamed and value.origin == "default":
                told[value.option.variable] = places.get(value.option, value.text)
        unwritten = self.unwritten
        told |= {
            value.option.variable: places.get(value.option, value.text)
            for value in self._of_the_environment()
            if value.option not in unwritten
        }
        return told

    def _of_the_environment(self) -> Iterator[Value]:
        return (
            value
            for value in self.settings.values
            if value.origin in (value.option.variable, *value.option.also, "command line")
        )


# What names a file or folder of this machine.
LOCAL = {
    *(DATABASE, VOLUME_PATH, MOVE_FROM, NOTIFICATIONS_COMMAND, UPLOADER_CONFIG, UPLOADS, WATCH_FOLDERS, WATCH_DONE),
    *(SHARED, S3_CA_FILE),
    *(option for access in ACCESS.values() for option in (access.ca_file, access.client_cert, access.client_key)),
}

# What the file of a whole cluster has of its own: its database, its storage, and a name for each container.
CLUSTERS = {
    *(SERVER_TOKEN, DATABASE_URL, SHARED_SPOOL, HOST, *PLACES),
    *(S3_ENDPOINT, S3_REGION, S3_KEY_ID, S3_SECRET, S3_TOKEN, S3_ADDRESSING),
}


def names_of(kind: Kind) -> list[str]:
    """The names of the files."""
    return sorted(path.name for path in _folder(kind).iterdir() if path.name != COMMON)


def files_for(kind: Kind, deployment: Deployment) -> dict[str, str]:
    """The files by their names."""
    if kind is Kind.SYSTEMD:
        common = _template(kind, COMMON)
        filled = {
            "program": " ".join(map(_word_of_command, deployment.program)),
            "user": _word(deployment.run_as),
            "folders": " ".join(_word(str(folder)) for folder in deployment.folders),
            "environment": "".join(
                f"Environment={_word(f'{name}={text}')}\n" for name, text in deployment.environment().items()
            ),
        }
        filled["common"] = _filled(common, filled)
    else:
        lines = _compose_environment(deployment.settings, CLUSTERS if kind is Kind.CLUSTER else {SERVER_TOKEN})
        filled = {"environment": "".join(f"    {line}\n" for line in lines)}
    return {name: _filled(_template(kind, name), filled) for name in names_of(kind)}


def local_values(settings: Settings) -> list[Value]:
    """What is set and names something of this machine that a container lacks, but for what it has of its own."""
    own = {*PLACES, UPLOADS, WATCH_FOLDERS, WATCH_DONE}
    return [value for value in _set(settings) if _is_local(value) and value.option not in own]


def this_program() -> tuple[str, ...]:
    """What starts this program."""
    script = Path(sys.executable).with_name("ingest")
    return (str(script),) if script.is_file() else (sys.executable, "-m", "ingest_cli")


def _without_dots(path: Path) -> Path:
    # systemd takes no path with "..", whose meaning depends on links.
    return path.resolve() if ".." in path.parts else path


def _folder(kind: Kind) -> Path:
    return Path(__file__).parent / kind


def _template(kind: Kind, name: str) -> str:
    return (_folder(kind) / name).read_text("utf-8")


def _filled(template: str, filled: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], template)


def _word(text: str) -> str:
    """The text as one word of a unit, in which neither a blank nor a percent sign means anything."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;#]", text) or not text else escaped


def _word_of_command(text: str) -> str:
    return _word(text).replace("$", "$$")


def _set(settings: Settings) -> Iterator[Value]:
    return (value for value in settings.values if value.origin != "default")


def _is_local(value: Value) -> bool:
    return value.option in LOCAL or value.text.startswith("file:")


def _compose_environment(settings: Settings, own: Container[Option]) -> Iterator[str]:
    """What is set, but for what is of this machine and what the file has of its ``own``."""
    for value in _set(settings):
        option = value.option
        if _is_local(value) or option in own:
            continue
        if option.secret or value.shown != value.text:
            # Compose takes it from its own environment.
            yield f"{option.variable}: ${{{option.variable}:?[{option.section}] {option.key}}}"
        else:
            yield f"{option.variable}: {json.dumps(value.text.replace('$', '$$'))}"
