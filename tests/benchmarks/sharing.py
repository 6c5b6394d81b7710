"""A bundle that lies on the archive's own XFS, packed here so that its bytes can be shared, or by another program.

As root: a disk is mounted. It takes up to 20 GiB.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..support.mounting import formatted_disk
from .alone import unpacking
from .bundles import make_bundle
from .cases import GIB, MIB, Case, Measured, Turn, ingest, own, ran

DISK = 40 * GIB  # of which only what is written takes room
LARGE = {f"{number}.bin": 128 * MIB for number in range(8)}
OF = ("--submitter", "10", "--project", "1234a", "--instrument", "54")


def cases(folder: Path) -> Iterator[Case]:
    with formatted_disk(folder / "image", folder / "disk", DISK // MIB, "xfs"):
        disk = folder / "disk"
        foreign = make_bundle(disk, LARGE)
        packed = disk / "packed.tar"
        subprocess.run(ingest("pack", disk / "data", *OF, "--quiet", "--output", packed), check=True)
        for title, bundle, aim in (
            ("1 GiB in 8 files, packed by ingest, on the archive's XFS", packed, 0.5),
            ("the same, packed by tar", foreign, 1.0),
        ):
            yardsticks = {
                "tar xf + sha1sum -c": on(disk, unpacking(bundle)),
                "the same, synced": on(disk, unpacking(bundle, synced=True)),
                "cp --reflink": on(disk, cloning(bundle)),
            }
            yield Case(title, on(disk, own("--quiet", bundle)), yardsticks, aim=aim, rounds=3)


def on(disk: Path, turn: Turn) -> Turn:
    """A turn that is had on the disk."""

    def there(place: Path) -> Measured:
        taken = disk / place.parent.name / place.name
        taken.mkdir(parents=True)
        return turn(taken)

    return there


def cloning(bundle: Path) -> Turn:
    return lambda place: ran([["cp", "--reflink=always", bundle, place]])
