"""Those who are sent events: a service over HTTP, and a command."""

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Protocol

from ..errors import ExitCode, IngestError
from ..settings import Endpoint, Notifications, ReceiverKind
from ..settings.options import ACCESS, OPTIONS
from ..text import duration, one_line
from .message import Message

CONNECT_SECONDS = 10.0
# For an answer, and for a command to end.
ANSWER_SECONDS = 30.0
DAY = 86_400.0
# What passes is waited for so long, and what was refused for what it is: a receiver can be mended.
PATIENCE_SECONDS = 7 * DAY
REFUSED_PATIENCE_SECONDS = DAY
GONE = 410
# These are about who asks, the address or the moment, not about the event.
RETRYABLE_4XX = {401, 403, 404, 405, 407, 408, 421, 425, 429}
MOST_READ = 300
SECRETS = {option.variable for option in OPTIONS if option.secret}


class NotReceived(IngestError):
    """A receiver did not take an event. It is sent again for ``patience`` seconds, the next time in ``wait`` at least.

    ``is_outage`` says that it would have taken no other either, as far as that can be told.
    """

    transient = True
    exit_code = ExitCode.UNREACHABLE

    def __init__(
        self, message: str, *, patience: float = PATIENCE_SECONDS, wait: float = 0.0, is_outage: bool = True
    ) -> None:
        super().__init__(message)
        self.patience, self.wait, self.is_outage = patience, wait, is_outage


class Receiver(Protocol):
    """One who is sent events, from one thread."""

    name: str

    def deliver(self, message: Message) -> None:
        """Return once it has the event. Raises NotReceived."""

    def ping(self) -> str:
        """Say in a line that it is there. Raises NotReceived or SettingsError."""

    def abandon(self) -> None:
        """End a delivery that another thread is at, as far as that can be done."""


def receivers_of(notifications: Notifications) -> dict[ReceiverKind, Receiver]:
    """The receivers that the settings name."""
    found: dict[ReceiverKind, Receiver] = {}
    if notifications.url is not None:
        found["url"] = HttpReceiver(notifications.url)
    if notifications.command:
        found["command"] = CommandReceiver(notifications.command)
    return found


class HttpReceiver:
    """The service at an endpoint. It has an event once it answered 2xx; it is not followed elsewhere."""

    def __init__(self, endpoint: Endpoint) -> None:
        # What is behind the path may be a secret.
        self.name, self._endpoint = endpoint.url.partition("?")[0], endpoint

    def deliver(self, message: Message) -> None:
        """Post the event."""
        from ..connections import retry_after

        status, said, headers = self._answer("POST", message.headers, message.body)
        if 200 <= status < 300:
            return
        told = f"{self.name} answers {status}{f' ({said})' if said else ''}"
        if 300 <= status < 400:
            raise NotReceived(f"{told}: redirects are not followed")
        if status == GONE:
            raise NotReceived(told, patience=0.0, is_outage=False)
        if 400 <= status < 500 and status not in RETRYABLE_4XX:
            raise NotReceived(told, patience=REFUSED_PATIENCE_SECONDS, is_outage=False)
        raise NotReceived(told, wait=retry_after(headers))

    def ping(self) -> str:
        """Ask for its headers, which is harmless: whatever it answers, it answers."""
        begun = time.monotonic()
        status, said, _ = self._answer("HEAD", {}, None)
        if status >= 500 and status != 501:
            raise NotReceived(f"{self.name} answers {status}{f' ({said})' if said else ''}")
        return f"{self.name} answers in {(time.monotonic() - begun) * 1000:.0f} ms"

    def abandon(self) -> None:
        """Its timeouts end it."""

    def _answer(self, method: str, headers: Mapping[str, str], body: IO[bytes] | None) -> tuple[int, str, Any]:
        """The status of the answer, what it says, and its headers."""
        import requests

        from ..connections import reason_of, session

        try:
            # A connection that was kept may be closed by now, which could not be told from a receiver that is away.
            with (
                session(self._endpoint) as opened,
                opened.request(
                    method,
                    self._endpoint.url,
                    data=body,
                    headers=headers,
                    timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                    allow_redirects=False,
                    stream=True,
                ) as answer,
            ):
                said = b"" if answer.ok else answer.raw.read(MOST_READ)
                return answer.status_code, one_line(" ".join(said.decode(errors="replace").split())), answer.headers
        except requests.Timeout as error:
            raise NotReceived(f"{self.name} does not answer") from error
        # Beside its own, requests lets through what urllib3 and the standard library say of odd answers.
        except (requests.RequestException, OSError, ValueError) as error:
            raise NotReceived(f"{self.name} does not answer: {reason_of(error)}") from error


class CommandReceiver:
    """A command that is given the event on its standard input. It has it once it has ended with exit status 0."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.name, self._words = shlex.join(words), words
        self._process: subprocess.Popen[bytes] | None = None

    def deliver(self, message: Message) -> None:
        """Run the command."""
        with tempfile.TemporaryFile() as said:
            status = self._run(message, said)
            said.seek(0)
            told = said.read(MOST_READ).decode(errors="replace").strip().partition("\n")[0]
        if status == 0:
            return
        how = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
        raise NotReceived(f"{self.name} {how}{f': {one_line(told)}' if told else ''}")

    def ping(self) -> str:
        """See that the program is there."""
        import shutil

        if (found := shutil.which(self._words[0])) is None:
            raise NotReceived(f"{self._words[0]} is not there, or is no program")
        return found

    def abandon(self) -> None:
        """Kill it, with all that it has begun."""
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _run(self, message: Message, said: IO[bytes]) -> int:
        try:
            self._process = process = subprocess.Popen(
                self._words,
                stdin=message.body,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=_environment(message),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise NotReceived(f"{self.name} cannot be run: {why}") from error
        try:
            return process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotReceived(f"{self.name} did not end within {duration(ANSWER_SECONDS)}") from None
        finally:
            if process.poll() is None:
                self.abandon()
                process.wait()
            self._process = None


def _environment(message: Message) -> dict[str, str]:
    """This process's own variables, without secrets, and the attributes of the event."""
    secrets = SECRETS | {url.variable for url in ACCESS if "@" in os.environ.get(url.variable, "")}
    own = {name: value for name, value in os.environ.items() if name not in secrets}
    return {**own, **{f"CE_{name.upper()}": value for name, value in message.attributes.items()}}
