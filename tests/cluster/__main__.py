"""The whole scenario, which takes five minutes:

python -m tests.cluster [--seed N] [--small] [--pack-below BYTES] [--folder DIR]

As root, since hosts have networks of their own.
"""

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ..support.object_stores import seaweedfs
from ..support.postgres import serving_postgres
from .scenario import FULL, SMALL, scenario


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("--seed", type=int, default=1, help="which bundles, and which requests fail")
    parser.add_argument("--small", action="store_true", help="as the second tier has it")
    parser.add_argument("--folder", type=Path, help="where all of it is kept, for looking at it afterwards")
    parser.add_argument("--pack-below", type=int, metavar="BYTES", help="smaller files are packed")
    options = parser.parse_args()
    plan = replace(SMALL if options.small else FULL, seed=options.seed)
    if options.pack_below is not None:
        plan = replace(plan, pack_below=options.pack_below)
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("objects", "hosts"):
            (folder / name).mkdir(parents=True)
        postgres = stack.enter_context(serving_postgres())
        objects = stack.enter_context(seaweedfs(folder / "objects"))
        scene = stack.enter_context(scenario(folder / "hosts", plan, postgres, objects))
        scene.play()
        scene.assert_sound()
    print(f"{plan.bundles} bundles, each stored once; nothing else is there")


if __name__ == "__main__":
    main()
