"""Which files of a folder are packed: by their names, and by what they are."""

import fnmatch
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from ..errors import SettingsError

# What systems put beside a person's files, in whatever capitals.
LITTER = (
    *(".DS_Store", "._*", ".AppleDouble", ".Spotlight-V100", ".TemporaryItems", ".Trashes", ".fseventsd", "__MACOSX"),
    *("Thumbs.db", "ehthumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"),
    *("@eaDir", ".nfs0*", ".Trash-*", "lost+found"),
)
IS_LITTER = re.compile("|".join(map(fnmatch.translate, LITTER)), re.IGNORECASE)


class Reason(StrEnum):
    """Why something is left out, as the noun for it."""

    EXCLUDED = "excluded path"
    LITTER = "system file"
    ITSELF = "bundle being written"
    LOOSE = "file in none of the folders"
    OWN = "file or folder of this program"
    EMPTY = "empty folder"
    LINK = "symbolic link"
    BROKEN = "broken link"
    LOOP = "looping link"
    FIFO = "FIFO"
    SOCKET = "socket"
    DEVICE = "device"
    OTHER = "special file"


# Of those that take more than an s.
PLURALS = {
    Reason.LOOSE: "files in none of the folders",
    Reason.ITSELF: "bundles being written",
    Reason.OWN: "files and folders of this program",
}
# Refused, unless it is to be skipped.
SPECIAL = frozenset({Reason.LINK, Reason.BROKEN, Reason.LOOP, Reason.FIFO, Reason.SOCKET, Reason.DEVICE, Reason.OTHER})


@dataclass(frozen=True, kw_only=True, slots=True)
class PackRules:
    """Which files are packed.

    ``exclude`` are patterns of what is left out, a folder with all that is in it; so is `LITTER`, with
    ``default_excludes``. What is neither a file nor a folder is refused, or left out with ``skip_special``.
    ``dereference`` follows links, wherever they lead. Raises SettingsError for a pattern that names nothing.
    """

    exclude: tuple[str, ...] = ()
    default_excludes: bool = True
    skip_special: bool = False
    dereference: bool = False

    def __post_init__(self) -> None:
        for pattern in self.exclude:
            if not _parts(pattern):
                raise SettingsError(f"--exclude {pattern!r} names no file")

    def exclusion(self, name: str) -> Reason | None:
        """Why a file of this name in the bundle, or a folder whose name ends in a slash, is left out; None if not."""
        if any(_matches(name, pattern) for pattern in self.exclude):
            return Reason.EXCLUDED
        own = name.rstrip("/").rpartition("/")[2]
        return Reason.LITTER if self.default_excludes and IS_LITTER.match(own) else None

    def refuses(self, reason: Reason) -> bool:
        """Whether what would be left out for this reason is refused instead."""
        return reason in SPECIAL and not self.skip_special


USUAL = PackRules()


def _matches(name: str, pattern: str) -> bool:
    """Whether the pattern is one of the path: of all of it if it begins with a slash, else of its end."""
    if pattern.endswith("/") and not name.endswith("/"):
        return False
    wanted = _parts(pattern)
    return _fit(_parts(name), wanted if pattern.startswith(("/", "./")) else ["**", *wanted])


def _parts(path: str) -> list[str]:
    # The same text may be there in another Unicode form, as on a Mac.
    return [part for part in unicodedata.normalize("NFC", path).split("/") if part not in ("", ".")]


def _fit(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_fit(parts[skipped:], patterns[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _fit(parts[1:], patterns[1:])
