"""One bundle, or its folder, alone on one machine, against tar, cp and sha1sum: which neither make it durable nor note
anything."""

from collections.abc import Iterator
from pathlib import Path

from .bundles import make_bundle, small_files, unpack
from .cases import KIB, MIB, Case, Measured, Turn, ingest, own, ran

OF_FOLDER = ("--submitter", "10", "--project", "1234a", "--instrument", "54")


def cases(folder: Path) -> Iterator[Case]:
    for title, sizes in (
        ("20,000 files of 1 KiB", small_files(20_000, KIB)),
        ("200 files of 1 MiB", small_files(200, MIB)),
        ("one file of 512 MiB", {"large.bin": 512 * MIB}),
    ):
        bundle = make_bundle(folder / title.replace(" ", "-"), sizes)
        yardsticks = {
            "tar xf + sha1sum -c": unpacking(bundle),
            "the same, synced": unpacking(bundle, synced=True),
            "ingest with one thread": by_one_thread(bundle),
        }
        yield Case(title, own("--quiet", bundle), yardsticks, aim=1.0)
        data = bundle.with_name("data")
        yield Case(f"{title}, as a folder", own("--quiet", *OF_FOLDER, data), {"cp -r + sha1sum -c": copying(bundle)})


def copying(bundle: Path) -> Turn:
    return lambda place: ran([["cp", "-r", bundle.with_name("data"), place], unpack(bundle, place)[1]])


def unpacking(bundle: Path, *, synced: bool = False) -> Turn:
    def turn(place: Path) -> Measured:
        commands = unpack(bundle, place)
        if synced:
            commands.append(["sync", "-f", place])
        return ran(commands)

    return turn


def by_one_thread(bundle: Path) -> Turn:
    line = ingest("--quiet", bundle)
    return lambda place: ran([line], XDG_DATA_HOME=place, HOME=place, ARCHIVEINTERFACE_THREADS="1")
