"""The programs ``ingest`` and ``IngestCMD`` (``python -m ingest_cli``), ``pacifica-ingest`` and ``-cmd``."""

import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from .errors import ExitCode, IngestError, SourceError
from .streams import STANDARD_OUTPUT, flush, guard, occupy_closed


def main() -> NoReturn:
    """Run the command line."""
    _end_with(_ingest)


def pacifica_ingest() -> NoReturn:
    """Run the server by its old name."""
    _end_with(_pacifica_ingest)


def pacifica_ingest_cmd() -> NoReturn:
    """Run the administrator's command by its old name."""
    _end_with(_pacifica_ingest_cmd)


def _ingest() -> int:
    from .cli import app

    app(prog_name="ingest")
    return ExitCode.SUCCESS


def _pacifica_ingest() -> int:
    from .cli.old_names import serve

    return serve()


def _pacifica_ingest_cmd() -> int:
    from .cli.old_names import administer

    return administer()


def _end_with(program: Callable[[], int]) -> NoReturn:
    """Run the program; turn an error into a sentence on standard error and an exit status."""
    _use_utf_8()
    occupy_closed()
    # What their owner could not open again, files and folders would be of no use.
    os.umask(os.umask(0o077) & 0o077)
    guard()
    status, unwritten = _run(program), flush()
    # Whoever closes a pipe has read enough.
    if unwritten is not None and not isinstance(unwritten, BrokenPipeError):
        failed = _complain(_explained(unwritten))
        status = status or failed
    # What is left goes with the process: to look through it once more would take as long as many a command.
    gc.freeze()
    sys.exit(status)


def _use_utf_8() -> None:
    """Begin anew, in Python's UTF-8 mode, where the locale would have names of files be read in another encoding.

    Then a job is of the same file for every process, whatever the locale of each. The output keeps its encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        import locale

        os.environ.setdefault("PYTHONIOENCODING", locale.getencoding())
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _run(program: Callable[[], int]) -> int:
    """The exit status of the program."""
    try:
        return program()
    except SystemExit as end:
        return int(end.code or 0)
    except KeyboardInterrupt:  # before the command itself was begun
        return ExitCode.INTERRUPTED
    except OSError as error:
        return _complain(_explained(error))
    except IngestError as error:
        return _complain(error)


def _complain(error: IngestError) -> int:
    """Print the lines of the error; the exit status that it leads to."""
    for line in error.lines:
        print(f"ingest: {line}", file=sys.stderr)
    return error.exit_code


def _explained(error: OSError) -> IngestError:
    """The error for one of the system that nobody explained who knew more of it: mostly that of standard output."""
    from .disk import explained

    if isinstance(error, FileNotFoundError) and error.filename is None:
        return SourceError("the working directory is gone: give absolute paths")
    if error.filename == STANDARD_OUTPUT:
        return IngestError(f"cannot write {STANDARD_OUTPUT}: {error.strerror}")
    what = f"cannot read or write {error.filename}" if error.filename is not None else "the system does not allow it"
    return explained(error, what, IngestError)


if __name__ == "__main__":
    main()
