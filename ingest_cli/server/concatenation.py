"""Files of the spool, appended to another: the parts of an upload."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ..errors import SourceError
from .authentication import Refusal
from .incoming import Incoming
from .threads import Threads

# What is copied in one go, between which others have their turn.
BLOCK_BYTES = 1 << 20


async def append_files(file: Incoming, parts: Sequence[Path], disk: Threads) -> None:
    """Append the content of ``parts`` to ``file``, durably.

    It resumes where an earlier call was cut: what ``file`` holds is the beginning of that content already. Raises
    Refusal where a part is gone, and NoRoom.
    """
    done = file.length
    for part in parts:
        with await disk.do(_opened, part) as content:
            length = await disk.do(content.seek, 0, 2)
            await disk.do(content.seek, min(done, length))
            done -= min(done, length)
            while await disk.do(_append_block, file, content):
                pass
    await disk.do(file.sync)


def _opened(part: Path) -> BinaryIO:
    try:
        return part.open("rb", buffering=0)
    except FileNotFoundError:
        raise Refusal(410, "a part of the upload was removed, or has become a part of another one") from None
    except OSError as error:
        raise SourceError(f"cannot read {part}: {error.strerror}") from error


def _append_block(file: Incoming, content: BinaryIO) -> bool:
    """Append some of what is left of ``content``; False where nothing is."""
    try:
        block = content.read(BLOCK_BYTES)
    except OSError as error:
        raise SourceError(f"cannot read a part of {file.source}: {error.strerror}") from error
    file.write(block)
    return bool(block)
