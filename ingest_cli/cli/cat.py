"""``ingest cat JOB_ID PATH...``."""

import codecs
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from .command import command
from .completion import recorded_job_ids, stored_paths
from .options import Debug, Site

BESIDES = "\n\r\t"


@command
def cat(
    job_id: Annotated[
        int, typer.Argument(metavar="JOB_ID", help="The job that has the files.", autocompletion=recorded_job_ids)
    ],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Their paths in the bundle.", autocompletion=stored_paths)
    ],
    *,
    site: Site,
    debug: Debug = False,
) -> None:
    """Write the content of stored files to standard output."""
    from contextlib import closing

    from .. import api
    from .output import standard_output

    out = standard_output()
    with closing(api.read_files(job_id, paths, settings=site.settings)) as pieces:
        for piece in _text_of(pieces) if sys.stdout.isatty() else pieces:
            out.write(piece)
    out.flush()


def _text_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, for as long as they are text that commands no terminal. Raises SettingsError."""
    from ..errors import SettingsError

    decoder, checked = codecs.getincrementaldecoder("utf-8")(), ""
    try:
        for piece in pieces:
            text = decoder.decode(piece)
            if not text.translate(dict.fromkeys(map(ord, BESIDES))).isprintable():
                raise ValueError
            yield checked.encode()
            checked = text
        decoder.decode(b"", final=True)
        yield checked.encode()
    except ValueError as error:
        raise SettingsError("this is not text: redirect it, as in 'ingest cat JOB_ID PATH > FILE'") from error
