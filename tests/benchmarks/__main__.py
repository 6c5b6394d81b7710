"""All comparisons, or those of the subjects that are named; run by hand, as root for those that mount file systems:

python -m tests.benchmarks [--folder DIR] [--rounds N] [SUBJECT]...

A subject is a file beside this one that has ``cases``: what it makes stays in DIR until it is through, which can be
20 GiB.
Prints one table of medians, of the fastest and the slowest, of ratios, and of the peak memory of this program.
"""

import argparse
import datetime
import importlib
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .cases import KIB, Case, Outcome, compared


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--folder", type=Path, help="where files are made: on the disk that is to be measured")
    parser.add_argument("--rounds", type=int, help="turns of each, where another number is wanted than a case has")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(subjects()))
    options = parser.parse_args()
    print(machine(), flush=True)
    for subject in options.subjects or subjects():
        print(f"\n{subject}", flush=True)
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            for number, case in enumerate(cases_of(subject, Path(name))):
                place = Path(name, f"case{number}")
                place.mkdir()
                print("\n".join(rows(compared(case, place, options.rounds))), flush=True)


def subjects() -> list[str]:
    """The files that have cases, none of which is imported: what they need may not be there."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if "\ndef cases(" in file.read_text("utf-8"))


def cases_of(subject: str, folder: Path) -> Iterator[Case]:
    module = importlib.import_module(f"{__package__}.{subject}")
    cases: Iterator[Case] = module.cases(folder)
    return cases


def machine() -> str:
    """What was measured on, and when."""
    today = datetime.datetime.now(datetime.UTC).date()
    cores = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    return f"{today}, {cores} cores ({name}), Linux {platform.release()}, Python {platform.python_version()}"


def rows(outcome: Outcome) -> Iterator[str]:
    """The lines of a case: our own, and each of the others with what our time is of it."""
    case, peak = outcome.case, outcome.peak()
    rate = f", {case.per / statistics.median(outcome.seconds('ingest')):,.0f} a second" if case.per else ""
    memory = f", peak {peak / KIB:.0f} MiB" if peak is not None else ""
    yield f"  {case.title}"
    yield f"    {'ingest':34}{spread(outcome.seconds('ingest'))}{rate}{memory}"
    for number, (name, ratio) in enumerate(outcome.ratios().items()):
        aim = f", aim {case.aim:.2f}" if case.aim is not None and number == 0 else ""
        yield f"    {name:34}{spread(outcome.seconds(name))}  ratio {ratio:.2f}{aim}"


def spread(seconds: list[float]) -> str:
    median, least, most = statistics.median(seconds), min(seconds), max(seconds)
    return f"{median:8.3f} s ({least:.3f}-{most:.3f})"


if __name__ == "__main__":
    main()
