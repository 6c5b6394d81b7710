"""The errors of PostgreSQL as this program's own: which pass, and which do not."""

import re

import psycopg

from ..errors import Contended, IngestError, ResourceUnavailable, StoreError, StoreRefused
from .database import Refused

# The classes of errors that pass: connection, resources, state, concurrency, operator, system; and that it may only be
# read, as while another server takes over.
PASSING = ("08", "25", "40", "53", "55", "57", "58")
# The classes of errors that are of settings and rights: who may come in, to which database, and at which tables.
REFUSING = ("28", "3D", "42501")
# What the server says as it refuses a connection comes without a class, as does what libpq says of a URL.
REFUSALS = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|does not exist|no such (user|database)"
    r"|invalid \w+ value"
)
# A deadlock, and what cannot be made as if one had come after the other.
CONTENTION = ("40P01", "40001")
# By RAISE EXCEPTION.
RAISED = "P0001"


def is_of_the_server(error: "psycopg.Error") -> bool:
    """Whether it says that the server could not be asked, rather than that it refused or that others were at it."""
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(("08", "57P"))


def explained(error: "psycopg.Error", message: str) -> IngestError:
    """The error to raise for one of PostgreSQL: what may pass, or what does not."""
    state, reason = error.sqlstate or "", _in_a_line(str(error))
    if state == RAISED:  # it has moved
        return StoreError(error.diag.message_primary or reason)
    if state in CONTENTION:
        return Contended(f"{message} now: {reason}")
    if isinstance(error, psycopg.IntegrityError):
        return Refused(reason)
    if state.startswith(REFUSING) or (not state and REFUSALS.search(reason)):
        return StoreRefused(f"{message}: {reason}")
    if state.startswith(PASSING) or (not state and isinstance(error, psycopg.OperationalError)):
        return ResourceUnavailable(f"{message} now: {reason}")
    return StoreError(f"{message}: {reason}")


def _in_a_line(text: str) -> str:
    return "; ".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
