"""What is uploaded: which of the paths are bundles, which are packed, and with what metadata."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundle.pack_rules import PackRules
from ..bundle.records import transaction_records
from ..errors import SettingsError
from .questions import LOGON, Choose, Given, Policy, Questions
from .upload import Item, Packing


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadDescription:
    """What was said of the files: who submits them, and so on; ``pairs`` of keys and values; and what is ``given`` for
    the questions of a site."""

    submitter: int | None = None
    project: str | None = None
    instrument: int | None = None
    pairs: Sequence[tuple[str, str]] = ()
    given: Mapping[str, Given] = field(default_factory=dict)

    @property
    def ids(self) -> dict[str, Any]:
        """The ids, by the names of their options."""
        return {"submitter": self.submitter, "project": self.project, "instrument": self.instrument}

    @property
    def missing(self) -> list[str]:
        """The ids that are missing."""
        return [name for name, value in self.ids.items() if value is None]

    @property
    def says_something(self) -> bool:
        """Whether anything was said: then the paths are files to be packed."""
        return bool(self.pairs) or self.answers_something or len(self.missing) < len(self.ids)

    @property
    def answers_something(self) -> bool:
        """Whether anything was said that only the site asks for."""
        return any(given != Given() for given in self.given.values())

    def answers(self) -> dict[str, Given]:
        """What is given for the questions of a site; the ids too, which may be among them."""
        named = {name: Given(value=str(value)) for name, value in self.ids.items() if value is not None}
        return {**self.given, **{name: _both(answer, self.given.get(name)) for name, answer in named.items()}}


@dataclass(frozen=True, slots=True)
class Metadata:
    """The records of a bundle besides those of its files; and the ``folder`` that these lie in, by their paths, where a
    site says so."""

    records: list[dict[str, Any]]
    folder: str | None = None


def plan(
    paths: Sequence[Path],
    rules: PackRules,
    describe: Callable[[Path], Metadata],
    *,
    pack_files: bool = False,
    together: bool = False,
) -> list[Item]:
    """The items to upload. Files are bundles, unless ``pack_files``. ``describe`` is asked once, if any is packed."""
    packed = [path for path in paths if pack_files or together or _is_folder(path)]
    if not packed:
        return [Item(name=str(path), paths=(path,)) for path in paths]
    metadata = describe(packed[0])
    if together:
        return [_item(paths, rules, metadata)]
    return [_item([path], rules, metadata) if path in packed else Item(name=str(path), paths=(path,)) for path in paths]


def described(description: UploadDescription, path: Path) -> Metadata:
    """The metadata that only options give, for ``path``. Raises SettingsError."""
    if description.missing:
        options = ", ".join(f"--{name}" for name in description.missing)
        raise SettingsError(f"to pack {path}, give {options}, or the uploader.json of a site by --uploader-config")
    assert description.submitter is not None
    assert description.project is not None
    assert description.instrument is not None
    pairs = description.pairs
    return Metadata(transaction_records(description.submitter, description.project, description.instrument, pairs))


def asked(description: UploadDescription, questions: Questions, policy: Policy, choose: Choose) -> Metadata:
    """The metadata that a site asks for. Raises SettingsError, and what the policy service raises."""
    questions.answer(policy, description.answers(), choose)
    pairs = [
        {"destinationTable": "TransactionKeyValue", "key": key, "value": value} for key, value in description.pairs
    ]
    return Metadata([*questions.records(), *pairs], questions.folder())


def user_of(description: UploadDescription, otherwise: str) -> str:
    """In whose name a policy service is asked."""
    return description.given.get(LOGON, Given()).value or otherwise


def name_in_bundle(folder: str, path: Path) -> str:
    """What the file or folder is called in a bundle whose files lie in this folder: pacifica-cli takes all of its path.

    What leads up is left out, with all before it.
    """
    parts = [part for part in path.parts if part != path.anchor]
    up = max((number for number, part in enumerate(parts, 1) if part == ".."), default=0)
    return "/".join(part for part in [*folder.split("/"), *parts[up:]] if part not in ("", ".", ".."))


def _item(paths: Sequence[Path], rules: PackRules, metadata: Metadata) -> Item:
    folder = metadata.folder
    names = None if folder is None else tuple(name_in_bundle(folder, path) for path in paths)
    # A folder is packed, be it that a link leads to it.
    tops = tuple(path.resolve() if _is_folder(path) and path.is_symlink() else path for path in paths)
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return Item(name=name, paths=tops, packing=Packing(records=metadata.records, rules=rules, names=names))


def _both(answer: Given, more: Given | None) -> Given:
    return answer if more is None else Given(value=answer.value, pattern=more.pattern)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long: whoever reads it will say so
        return False
