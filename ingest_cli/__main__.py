"""The commands ``ingest`` and ``IngestCMD``, and ``python -m ingest_cli``."""

import sys
from typing import NoReturn

from .errors import IngestError


def main() -> NoReturn:
    """Run the command line; turn an error into a sentence on standard error and an exit status."""
    from .cli import app

    try:
        app(prog_name="ingest")
    except IngestError as error:
        if "--debug" in sys.argv:
            raise
        for line in error.lines:
            print(f"ingest: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    main()
