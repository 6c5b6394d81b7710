"""The commands ``ingest`` and ``IngestCMD``, and ``python -m ingest_cli``."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from .errors import ExitCode, IngestError
from .streams import keep_lines_whole


def main() -> NoReturn:
    """Run the command line; turn an error into a sentence on standard error and an exit status."""
    from .cli import app

    keep_lines_whole()
    try:
        try:
            app(prog_name="ingest")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        # Where what is read and written has a name, those who do it explain it: this is mostly standard output.
        print(f"ingest: cannot read or write {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        # What could not be written would be tried again, and complained of, at the very end.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        sys.exit(ExitCode.FAILED)
    except IngestError as error:
        for line in error.lines:
            print(f"ingest: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    main()
