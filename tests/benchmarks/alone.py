"""What ingesting alone on one machine costs, against tar and sha1sum, in one run. Run by hand, with 6 GiB free:

python -m tests.benchmarks.alone [FOLDER]

Nothing is deleted before the end: ext4 avoids the inodes of files just deleted, which would make whoever comes next
look slow. The bundles are made from files on disk by tar, so that this process stays small: a child's peak memory
counts from that of its parent.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..support.bundles import document_for, file_record, transaction, write_bundle

KIB, MIB = 1 << 10, 1 << 20
ROUNDS = 3


def main() -> None:
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        start_up(folder)
        small = make_bundle(folder / "small", {f"{n % 100:02}/{n:05}.bin": KIB for n in range(20_000)})
        compare("20,000 files of 1 KiB", small)
        compare("one file of 1 GiB", make_bundle(folder / "large", {"large.bin": 1024 * MIB}))


def make_bundle(folder: Path, sizes: dict[str, int]) -> Path:
    """A bundle of random files, and beside it ``sums`` for sha1sum."""
    for name, size in sizes.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for _ in range(-(-size // MIB)):
                file.write(os.urandom(min(size, MIB)))
    paths = [f"data/{name}" for name in sizes]
    sums = subprocess.run(["xargs", "sha1sum"], input="\n".join(paths), cwd=folder, text=True, capture_output=True)
    (folder / "sums").write_text(sums.stdout)
    records = [
        file_record(path, b"", size=size, hashsum=line.split()[0])
        for path, size, line in zip(paths, sizes.values(), sums.stdout.splitlines(), strict=True)
    ]
    (folder / "metadata.txt").write_text(json.dumps(transaction() + records))
    subprocess.run(["tar", "-cf", "bundle.tar", "data", "metadata.txt"], cwd=folder, check=True)
    return folder / "bundle.tar"


def compare(title: str, bundle: Path) -> None:
    folder = bundle.parent
    plain, synced, ours = [], [], []
    for number in range(ROUNDS):
        plain.append(timed(unpack(bundle, folder / f"out{number}")))
        synced.append(timed([*unpack(bundle, folder / f"synced{number}"), ["sync", "-f", str(folder)]]))
        os.environ["XDG_DATA_HOME"] = str(folder / f"site{number}")
        ours.append(timed([[sys.executable, "-m", "ingest_cli", "-q", str(bundle)]]))
    base, durable, own = (min(seconds for seconds, _ in runs) for runs in (plain, synced, ours))
    print(f"{title}: tar + sha1sum {base:.2f} s, the same synced {durable:.2f} s, ingest {own:.2f} s")
    print(f"    ingest to tar + sha1sum {own / base:.2f}, to the same synced {own / durable:.2f}")
    print(f"    peak memory of ingest {max(peak for _, peak in ours) / KIB:.0f} MiB", flush=True)


def unpack(bundle: Path, out: Path) -> list[list[str]]:
    out.mkdir()
    sums = bundle.with_name("sums")
    return [["tar", "-xf", str(bundle), "-C", str(out)], ["sh", "-c", f"cd {out} && sha1sum --quiet -c {sums}"]]


def timed(commands: list[list[str]]) -> tuple[float, int]:
    """Seconds of all commands together, and the peak memory in KiB of the last."""
    os.sync()
    begun, peak = time.perf_counter(), 0
    for command in commands:
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} failed")
        peak = usage.ru_maxrss
    return time.perf_counter() - begun, peak


def start_up(folder: Path) -> None:
    os.environ["XDG_DATA_HOME"] = str(folder / "one")
    bundle = write_bundle(folder / "one.tar", {"data/a": b"a"}, document_for({"data/a": b"a"}))
    subprocess.run([sys.executable, "-m", "ingest_cli", "-q", str(bundle)], check=True)
    bare = best([sys.executable, "-c", "pass"])
    for words in (["--help"], ["state", "1"]):
        seconds = best([sys.executable, "-m", "ingest_cli", *words])
        print(f"ingest {' '.join(words)}: {seconds * 1000:.0f} ms, {seconds / bare:.1f} times a bare interpreter")


def best(command: list[str]) -> float:
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main()
