"""What is said of a request that was not answered, and what of an answer that was odd."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from ingest_cli.connections import reason_of, retry_after

HERE = HTTPConnection("127.0.0.1", 9)
POOL = cast(Any, SimpleNamespace(__str__=lambda: ""))


def refused() -> NewConnectionError:
    """What urllib3 says where nobody listens."""
    made = NewConnectionError(HERE, "Failed to establish a new connection: [Errno 111] Connection refused")
    made.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return made


def test_the_reason_is_that_of_the_system_without_what_the_libraries_say_around_it() -> None:
    never_made = requests.ConnectionError(MaxRetryError(POOL, "/", refused()))
    assert reason_of(never_made) == "Connection refused"
    reset = ConnectionResetError(104, "Connection reset by peer")
    assert reason_of(requests.ConnectionError(ProtocolError("Connection aborted.", reset))) == reset.strerror
    silent = ReadTimeoutError(POOL, "/", "HTTPConnectionPool(host='127.0.0.1', port=9): Read timed out.")
    assert reason_of(requests.ReadTimeout(silent)).endswith("Read timed out.")


def test_the_reason_is_not_what_went_wrong_before() -> None:
    error = refused()
    assert error.__cause__ is not None
    error.__cause__.__context__ = LookupError("the server does not know job 5")
    assert reason_of(requests.ConnectionError(MaxRetryError(POOL, "/", error))) == "Connection refused"


@pytest.mark.parametrize(
    ("given", "seconds"), [("3", 3.0), ("", 0.0), ("-1", 0.0), ("²", 0.0), ("9" * 400, 0.0), ("soon", 0.0)]
)
def test_an_odd_retry_after_is_none(given: str, seconds: float) -> None:
    assert retry_after({"Retry-After": given}) == seconds
    assert retry_after({}) == 0.0
