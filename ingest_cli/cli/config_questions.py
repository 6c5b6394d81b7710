"""What ``ingest config init`` asks. A question is left out where an option has answered it."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from ..disk import existing, explained, require_writable
from ..errors import SettingsError
from ..maintenance.config_file import settings_in
from ..maintenance.doctor import diagnose_service
from ..settings import Option, Value, login_name, split_http_url
from ..settings.forms import path_of
from ..settings.options import (
    ARCHIVE_URL,
    CATALOG_URL,
    DATABASE,
    DEFAULT_USER,
    PLACES,
    POLICY_URL,
    SERVER_TOKEN,
    UNIQUEID_URL,
    WATCH_DONE,
    WATCH_FOLDERS,
)
from ..settings.values import places_in, values_in
from .asking import ask, ask_whether
from .doctor import show
from .output import mention

# Where the released services of Pacifica listen.
USUAL_URLS = {
    UNIQUEID_URL: ("id service", "http://127.0.0.1:8051"),
    POLICY_URL: ("policy service, with its end point", "http://127.0.0.1:8181/ingest"),
    ARCHIVE_URL: ("archive interface", "http://127.0.0.1:8080"),
    CATALOG_URL: ("metadata service, with its end point", "http://127.0.0.1:8121/ingest"),
}
NONE = "none"
TOKEN_BYTES = 32

Chosen = dict[Option, str]


def ask_for(chosen: Chosen, path: Path) -> Chosen:
    """The ``chosen`` values of the file at ``path``, and what a person adds to them. Raises Interrupted."""
    mention(f"This writes {path}.")
    mention("Enter takes what stands in brackets; Ctrl-C ends this, and nothing is written.")
    if not USUAL_URLS.keys() & chosen.keys() and _is_of_pacifica():
        chosen = _with_services(chosen, path)
    chosen = _with_places(chosen, path)
    if DEFAULT_USER not in chosen:
        user = ask("User that the policy applies to:", login_name(), str)
        chosen = chosen if user == login_name() else {**chosen, DEFAULT_USER: user}
    if WATCH_FOLDERS not in chosen:
        chosen = _with_drop_folder(chosen)
    if SERVER_TOKEN not in chosen and ask_whether(
        "Take bundles from other machines, by 'ingest serve'? (yes or no)", proposal=False
    ):
        chosen = chosen | new_token()
        mention("  Its clients need the token that will stand in the file, below [server].")
    return chosen


def new_token() -> Chosen:
    """A token that clients of the server must have."""
    return {SERVER_TOKEN: secrets.token_urlsafe(TOKEN_BYTES)}


def _is_of_pacifica() -> bool:
    def read(text: str) -> bool:
        for word in ("here", "pacifica"):
            if word.startswith(text.lower()):
                return word == "pacifica"
        raise SettingsError(f"{text!r} is neither here nor pacifica")

    return ask("Who keeps the files: this program ('here'), or the services of 'pacifica'?", "here", read)


def _with_services(chosen: Chosen, path: Path) -> Chosen:
    """What has the URLs of the services, each of which is tried at once."""
    host = None
    for option, (name, usual) in USUAL_URLS.items():
        proposal = usual.replace("127.0.0.1", host) if host else usual
        read = partial(_url, option=option, chosen=chosen, path=path)
        url = ask(f"URL of the {name}:", proposal, read)
        chosen, host = {**chosen, option: url}, urlsplit(url).hostname
    return chosen


def _url(text: str, *, option: Option, chosen: Mapping[Option, str], path: Path) -> str:
    if split_http_url(text) is None:
        raise SettingsError(f"{text!r} is not an http(s) URL")
    settings = settings_in({**chosen, option: text}, path)
    mention("  trying it")
    finding = diagnose_service(settings, option)
    show(replace(finding, advice=""))
    if not finding.ok and not ask_whether("Take it all the same? (yes or no)", proposal=False):
        raise SettingsError("once more, then:")
    return text


def _with_places(chosen: Chosen, path: Path) -> Chosen:
    """What has a place for everything that is kept on this machine."""
    usual = {value.option: value.text for value in values_in("", path)}
    if not {*PLACES} <= {*chosen}:
        proposal = str(Path(usual[DATABASE] or "/var/lib/ingest/x").parent)
        what = "job store" if CATALOG_URL in chosen else "databases"
        folder = ask(f"Folder for the {what} and for what is on its way in:", proposal, _folder)
        places = places_in(folder)
        if ARCHIVE_URL not in chosen:
            archive = ask("Folder for the archive:", str(folder / "archive"), _folder)
            places[ARCHIVE_URL] = archive.as_uri()
        chosen = {option: places[option] for option in PLACES} | chosen
    return chosen


def _with_drop_folder(chosen: Chosen) -> Chosen:
    drop = ask("Drop folder for 'ingest watch', or none:", NONE, _folder_or_none)
    if drop is None:
        return chosen
    done = ask("Folder to move to what was ingested from there, or none:", f"{drop}-done", _folder_or_none)
    for folder in filter(None, (drop, done)):
        if not folder.is_dir() and ask_whether(f"There is no {folder}: make it? (yes or no)", proposal=True):
            _make(folder)
    return {**chosen, WATCH_FOLDERS: str(drop)} | ({} if done is None else {WATCH_DONE: str(done)})


def _folder_or_none(text: str) -> Path | None:
    return None if text.lower() == NONE else _folder(text)


def _folder(text: str) -> Path:
    """The folder, in which files can be made, or which can be made."""
    path = path_of(Value(DATABASE, text, "what was typed"))
    try:
        require_writable(existing(path))
    except OSError as error:
        raise explained(error, f"cannot write into {path}", SettingsError, path) from error
    return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        mention(f"  cannot make {folder}: {error.strerror}")
