"""The commands ``ingest`` and ``IngestCMD``, and ``python -m ingest_cli``."""

import os
import sys
from typing import NoReturn

from .errors import ExitCode, IngestError
from .streams import guard, occupy_closed
from .text import one_line


def main() -> NoReturn:
    """Run the command line; turn an error into a sentence on standard error and an exit status."""
    occupy_closed()
    # What their owner could not open again, files and folders would be of no use.
    os.umask(os.umask(0o077) & 0o077)
    guard()
    status = _run()
    sys.exit(status if _flush() else status or ExitCode.FAILED)


def _run() -> int:
    """The exit status of the command."""
    try:
        from .cli import app

        app(prog_name="ingest")
    except SystemExit as end:
        return int(end.code or 0)
    except KeyboardInterrupt:  # before the command itself was begun
        return ExitCode.INTERRUPTED
    except OSError as error:
        # Where what is read and written has a name, those who do it explain it: this is mostly standard output.
        _complain(error)
        return ExitCode.FAILED
    except IngestError as error:
        for line in error.lines:
            print(f"ingest: {line}", file=sys.stderr)
        return error.exit_code
    return ExitCode.SUCCESS


def _flush() -> bool:
    """Whether all that was printed to standard output is written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _complain(error)
        return False
    finally:
        # What could not be written would be tried again, and complained of, at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def _complain(error: OSError) -> None:
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return  # whoever read it has seen enough
    if isinstance(error, FileNotFoundError) and error.filename is None:
        message = "the working directory is gone: give absolute paths"
    else:
        message = f"cannot read or write {error.filename or 'standard output'}: {error.strerror}"
    print(f"ingest: {one_line(message)}", file=sys.stderr)


if __name__ == "__main__":
    main()
