"""What is stored: verified, checked and restored, beside what hashes, copies and unpacks the same."""

from collections.abc import Iterator
from pathlib import Path

from .bundles import make_bundle, small_files
from .cases import GIB, KIB, MIB, Case, Turn, ingest, ran

KINDS = {
    "1 GiB in one file": {"one.bin": GIB},
    "200 x 1 MiB": small_files(200, MIB),
    "20,000 x 1 KiB": small_files(20_000, KIB),
}


def cases(folder: Path) -> Iterator[Case]:
    for number, (title, sizes) in enumerate(KINDS.items()):
        place = folder / str(number)
        place.mkdir()
        bundle = make_bundle(place, sizes)
        site: dict[str, str | Path] = {
            "XDG_DATA_HOME": place / "site",
            "HOME": place,
            "ARCHIVEINTERFACE_DIGEST": "blake3",
        }
        ran([ingest("--quiet", bundle)], **site)
        hashed = {"sha1sum": _running(["sh", "-c", f"cd {place} && sha1sum --quiet -c sums"])}
        yield Case(f"verify {title}", _running(ingest("verify", "1", "--quiet"), **site), hashed, aim=1.0)
        yield Case(f"verify --fast {title}", _running(ingest("verify", "1", "--fast", "--quiet"), **site), hashed)
        yield Case(f"check {title}", _running(ingest("check", "--quiet", bundle), **site), hashed, aim=1.0)
        yield Case(f"restore --to {title}", _restoring("--to", "folder", site), _written(place, bundle), aim=1.0)
        yield Case(f"restore -o {title}", _restoring("-o", "tar", site), _copied(bundle), aim=1.0)
    yield Case(
        "backup", lambda turn: ran([ingest("backup", "--quiet", turn / "b")], **site), _databases(place / "site")
    )


def _running(command: list[str | Path], **environment: str | Path) -> Turn:
    return lambda _: ran([command], **environment)


def _restoring(option: str, name: str, site: dict[str, str | Path]) -> Turn:
    return lambda turn: ran([ingest("restore", "1", option, turn / name, "--quiet")], **site)


def _written(place: Path, bundle: Path) -> dict[str, Turn]:
    """Copying and unpacking, each synced as what is restored is."""
    return {
        "cp -r, synced": lambda turn: ran([["cp", "-r", place / "data", turn], ["sync", "-f", turn]]),
        "tar xf, synced": lambda turn: ran([["tar", "-xf", bundle, "-C", turn], ["sync", "-f", turn]]),
    }


def _copied(bundle: Path) -> dict[str, Turn]:
    return {"cp, synced": lambda turn: ran([["cp", bundle, turn], ["sync", "-f", turn]])}


def _databases(site: Path) -> dict[str, Turn]:
    found = list(site.rglob("*.sqlite3"))
    return {"cp, synced": lambda turn: ran([["cp", *found, turn], ["sync", "-f", turn]])}
