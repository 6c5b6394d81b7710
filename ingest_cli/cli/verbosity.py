"""What ``--verbose`` adds: the program's own log, on standard error. Without it, nothing is logged."""

import logging
import time

from ..errors import SettingsError
from .output import mention


def set_verbosity(verbose: int, *, quiet: bool = False) -> None:
    """Log attempts, checkpoints and seconds with 1, each request too with 2. Once per process is enough."""
    if verbose and quiet:
        raise SettingsError("--quiet and --verbose cannot be used together")
    log = logging.getLogger("ingest_cli")
    if verbose and not log.handlers:
        handler = _StandardErrorHandler()
        # The process, since several may write to the same place; the times are UTC, as everywhere.
        handler.setFormatter(logging.Formatter("ingest[%(process)d] %(asctime)s: %(message)s", "%H:%M:%S"))
        handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
        log.addHandler(handler)
        log.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)


class _StandardErrorHandler(logging.Handler):
    """Writes to whatever standard error is at the moment: a live display replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        mention(self.format(record))
