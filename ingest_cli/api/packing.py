"""Pack bundles, to be ingested later or elsewhere."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from ..bundle.description import Description
from ..bundle.folder import FolderRequest, own_description
from ..bundle.pack import Packed, Plan, pack, plan, write_bundle
from ..bundle.pack_rules import USUAL, PackRules
from ..errors import PackError
from ..meter import NOBODY, Meter
from ..pipeline.describing import describe, folders_of, request_of, require_described
from ..settings import Defaults, Settings, load_settings
from .opening import AnyPath, require_several


def pack_bundle(
    paths: Iterable[AnyPath],
    target: AnyPath | IO[bytes],
    *,
    submitter: int | None = None,
    project: str | None = None,
    instrument: int | None = None,
    keys: Iterable[tuple[str, str]] = (),
    rules: PackRules = USUAL,
    replace: bool = False,
    meter: Meter = NOBODY,
    settings: Settings | None = None,
) -> Packed:
    """Pack files and folders into the bundle ``target``, a new file unless it may ``replace`` one, or an open file.

    A submitter, project or instrument that is not given is found as `ingest_folder` does; a folder that is packed alone
    may say it itself.
    """
    require_several(paths)
    given = Description(submitter=submitter, project=project, instrument=instrument, keys=tuple(keys))
    tops = list(map(Path, paths))
    if not tops:
        raise PackError("there is nothing to pack")
    # A bundle can be packed where nothing else of a site can be done.
    defaults = (settings or load_settings()).defaults if given.missing else Defaults()
    whole = describe(folders_of(tops), given, defaults)
    require_described(whole, tops[0])
    return pack_requested(tops, request_of(whole, rules), target, replace=replace, meter=meter)


def pack_requested(
    paths: Sequence[Path],
    request: FolderRequest,
    target: AnyPath | IO[bytes],
    *,
    replace: bool = False,
    meter: Meter = NOBODY,
) -> Packed:
    """Pack what is asked for of these files and folders into ``target``, as `pack_bundle` does."""
    tops = _tops(paths)
    own = own_description(tops)
    if isinstance(target, str | os.PathLike):
        return write_bundle(tops, request.records, Path(target), request.rules, replace=replace, own=own, meter=meter)
    return pack(tops, request.records, target, request.rules, own=own, meter=meter)


def plan_bundle(paths: Sequence[Path], request: FolderRequest) -> Plan:
    """What would be in the bundle of these files and folders; nothing is written."""
    tops = _tops(paths)
    return plan(tops, request.records, request.rules, own_description(tops))


def _tops(paths: Sequence[Path]) -> list[Path]:
    """What is packed: of a link to a folder that folder."""
    return [path.resolve() if path.is_dir() and path.is_symlink() else path for path in paths]
