"""What an archive in storage that speaks S3 costs, beside a folder and beside the bare requests. Run by hand:

python -m tests.benchmarks.object_storage [FOLDER]

SeaweedFS is started for it, with one bucket. The bare requests are obstore's own, of as many threads as the archive
has transfers; the client's seconds of processor are what a machine of its own would have to give. Small files are
stored, and restored, once more in packs.
"""

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..support.bundles import write_bundle
from ..support.object_stores import Between, ObjectServer, lacking, seaweedfs
from .cases import ingest, ran

ROUNDS = 3
TRANSFERS = 16
SIZES = {"3,000 files of 1 KiB": (3_000, 1 << 10), "300 files of 1 MiB": (300, 1 << 20), "2 of 150 MiB": (2, 150 << 20)}
PACKED = ((3_000, 1 << 10), (1_000, 64 << 10))


def main() -> None:
    if missing := lacking():
        sys.exit(missing)
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        (folder / "seaweedfs").mkdir()
        with seaweedfs(folder / "seaweedfs") as server:
            for what, (count, size) in SIZES.items():
                compare(folder, server, what, count, size)
            for count, size in PACKED:
                pack(folder, server, count, size)


def compare(folder: Path, server: ObjectServer, what: str, count: int, size: int) -> None:
    block = os.urandom(size)
    files = {f"data/{number % 100:02}/{number:05}": number.to_bytes(4, "big") + block[4:] for number in range(count)}
    bundle, bucket = write_bundle(folder / "bundle.tar", files), server.new_bucket()
    bare, stored, local = [], [], []
    for number in range(ROUNDS):
        bare.append(timed(lambda number=number: put_all(server, bucket, f"bare{number}", files)))  # type: ignore[misc]
        os.environ["XDG_DATA_HOME"] = str(folder / f"local{count}-{number}")
        local.append(ran([ingest("-q", bundle)]).seconds)
        os.environ["XDG_DATA_HOME"] = str(folder / f"site{count}-{number}")
        os.environ.update(server.variables(bucket, f"archive{number}"), ARCHIVEINTERFACE_TRANSFERS=str(TRANSFERS))
        stored.append(timed(lambda: ran([ingest("-q", bundle)])))
        for variable in (*server.variables(bucket), "ARCHIVEINTERFACE_TRANSFERS"):
            del os.environ[variable]
    (seconds, used), (least, bare_used) = min(stored), min(bare)
    print(f"{what}: {seconds:.1f} s, {count / seconds:.0f} files a second, {used:.1f} s of processor")
    print(
        f"    the bare requests {least:.1f} s, {bare_used:.1f} s of processor; a folder {min(local):.1f} s", flush=True
    )


def pack(folder: Path, server: ObjectServer, count: int, size: int) -> None:
    """With packs and without, turn about: how long it takes to store and to restore, and how many requests a file."""
    block = os.urandom(size)
    files = {f"data/{number:05}": number.to_bytes(4, "big") + block[4:] for number in range(count)}
    bundle = write_bundle(folder / "bundle.tar", files)
    took: dict[str, list[tuple[float, ...]]] = {}
    with Between(server) as between:
        for number in range(ROUNDS):
            for below in ("0", "1MiB"):
                place = server.variables(server.new_bucket(), "archive")
                os.environ["XDG_DATA_HOME"] = str(folder / f"packed{count}-{number}-{below}")
                os.environ.update(place, AWS_ENDPOINT_URL=server.url, ARCHIVEINTERFACE_PACK_BELOW=below)
                stored = timed(lambda: ran([ingest("-q", bundle)]))
                to = folder / f"back{count}-{number}-{below}"
                restored = timed(lambda to=to: ran([ingest("restore", "-q", "1", "--to", to)]))  # type: ignore[misc]
                took.setdefault(below, []).append((*stored, *restored))
        for below in took:
            os.environ["XDG_DATA_HOME"] = str(folder / f"counted{count}-{below}")
            os.environ.update(server.variables(server.new_bucket()), AWS_ENDPOINT_URL=between.url)
            os.environ["ARCHIVEINTERFACE_PACK_BELOW"] = below
            requests = []
            for words in (("-q", bundle), ("restore", "-q", "1", "--to", folder / f"counted-back{count}-{below}")):
                between.seen.clear()
                ran([ingest(*words)])
                requests.append(len(between.seen))
            seconds, used, back, back_used = map(statistics.median, zip(*took[below], strict=True))
            print(f"{count} files of {size >> 10} KiB, pack_below = {below}:")
            print(f"    stored {count / seconds:.0f} a second, {used:.1f} s of processor, {requests[0]} requests")
            print(f"    restored {count / back:.0f} a second, {back_used:.1f} s, {requests[1]} requests", flush=True)
    for variable in (*server.variables(""), "ARCHIVEINTERFACE_PACK_BELOW"):
        del os.environ[variable]


def put_all(server: ObjectServer, bucket: str, prefix: str, files: dict[str, bytes]) -> None:
    import obstore

    store = server.store(bucket)
    with ThreadPoolExecutor(TRANSFERS) as pool:
        list(pool.map(lambda path: obstore.put(store, f"{prefix}/{path}", files[path], max_concurrency=4), files))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """How long it takes, and the processor's seconds of this process and of those that it runs."""
    begun, used = time.monotonic(), _used()
    work()
    return time.monotonic() - begun, _used() - used


def _used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


if __name__ == "__main__":
    main()
