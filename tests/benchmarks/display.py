"""What the live display costs: the same bundles in a pseudo-terminal with it and with --quiet. Run by hand, with 6 GiB
free: python -m tests.benchmarks.display [FOLDER]

The two take turns, and the mean of the three fastest of each counts. The seconds of the processor are given too: they
tell more where the disk is what is waited for. The bundle of one small file shows what the display costs at all, which
on a machine with other work is the surest figure. Small files stay until the end: ext4 avoids the inodes of files just
deleted.
"""

import os
import pty
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ..support.command import Command
from .bundles import make_bundle
from .cases import KIB, MIB

ROUNDS = 12


def main() -> None:
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        compare("one file of 1 KiB", make_bundle(folder / "one", {"one.bin": KIB}), 3 * ROUNDS)
        small = {f"{number % 100:02}/{number:05}.bin": KIB for number in range(20_000)}
        compare("20,000 files of 1 KiB", make_bundle(folder / "small", small), ROUNDS)
        compare("one file of 1 GiB", make_bundle(folder / "large", {"large.bin": 1024 * MIB}), ROUNDS)


def compare(title: str, bundle: Path, rounds: int) -> None:
    quiet, shown = [], []
    for _ in range(rounds):
        quiet.append(in_terminal(bundle, "--quiet"))
        shown.append(in_terminal(bundle))
    for what, index in (("wall clock", 0), ("processor", 1)):
        base, with_display = (statistics.mean(sorted(run[index] for run in runs)[:3]) for runs in (quiet, shown))
        more = f"{1000 * (with_display - base):+.0f} ms, {with_display / base - 1:+.1%}"
        print(f"{title}, {what}: quiet {base:.3f} s, with the display {with_display:.3f} s, {more}", flush=True)


def in_terminal(bundle: Path, *words: str) -> tuple[float, float]:
    """Seconds by the clock, and of the processor, for a job at a new site in a terminal of its own."""
    site = Path(tempfile.mkdtemp(dir=bundle.parent))
    os.environ.update(XDG_DATA_HOME=str(site), TERM="xterm-256color")
    line = Command.line(*words, bundle)
    os.sync()
    begun = time.perf_counter()
    process, terminal = pty.fork()
    if process == 0:
        os.execv(line[0], line)
    read_all(terminal)
    _, status, usage = os.wait4(process, 0)
    took = time.perf_counter() - begun
    os.close(terminal)
    if status:
        raise SystemExit(f"{line} failed")
    if bundle.parent.name == "large":
        shutil.rmtree(site)
    return took, usage.ru_utime + usage.ru_stime


def read_all(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:  # so Linux says that the other end is closed
        pass


if __name__ == "__main__":
    main()
