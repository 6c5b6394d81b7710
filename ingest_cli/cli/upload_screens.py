"""What a person or a program sees of an upload: one screen for each kind of output."""

from types import TracebackType
from typing import Any

from ..client.observer import State, UploadObserver
from ..client.waiting import deferred_until, is_complete
from ..errors import IngestError
from ..text import duration
from .output import Warnings, error_fields, mention, notify, regardless, say, write_json
from .screens import Once, PlainScreen

# Shorter failures than these are not worth a line.
LONGEST_UNTOLD_SECONDS = 2.0


class QuietUpload(UploadObserver):
    """Shows one upload: this one shows only errors, subclasses show more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def failed(self, error: IngestError) -> None:
        """Say on standard error why it failed."""
        what, *notes = error.lines
        for line in (f"{self._name}: {what}", *notes):
            notify(line)


class PolicyScreen(UploadObserver):
    """Says why a policy service is waited for."""

    def retrying(self, error: IngestError, seconds: float) -> None:
        """Say it, where that takes longer."""
        if seconds >= LONGEST_UNTOLD_SECONDS:
            notify(f"{error}; trying again in {duration(seconds)}")


class JsonUpload(QuietUpload):
    """One JSON object per item on standard output: its job as the server tells of it, and the error that ended it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._warnings, self._state = Warnings(), State()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write(None)

    def warn(self, message: str) -> None:
        """Write the warning."""
        self._warnings.warn(message)

    def accepted(self, state: State) -> None:
        """Note the job's state."""
        self.settled(state)

    def settled(self, state: State) -> None:
        """Note the job's state."""
        self._warnings.end()
        self._state = state

    def failed(self, error: IngestError) -> None:
        """Say why it failed, and write it with the job, if there is one."""
        super().failed(error)
        self._write(error)

    def _write(self, error: IngestError | None) -> None:
        with regardless():
            write_json({**self._state, "source": self._name, **error_fields(error)})


class PlainUpload(QuietUpload):
    """A line an upload on standard output; what happens meanwhile on ``screen``, and on standard error."""

    def __init__(self, name: str, screen: PlainScreen) -> None:
        super().__init__(name)
        self._screen = screen
        self._stage = self._told = ""

    def __enter__(self) -> "PlainUpload":
        self._screen.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._screen.__exit__(*error)

    def packing(self) -> None:
        """Say that files are packed."""
        self._screen.stage("packing")

    def plan(self, files: int, total_bytes: int) -> None:
        """Note how much is to be packed."""
        self._screen.plan(files, total_bytes)

    def advance(self, length: int, files: int = 0) -> None:
        """Count what is packed."""
        self._screen.stored(length, files)

    def sending(self, size: int, sent: int) -> None:
        """Say that the bundle is sent."""
        self._screen.stage("sending")
        self._screen.plan(1, size)
        self._screen.stored(sent)

    def sent(self, length: int) -> None:
        """Count what is sent."""
        self._screen.stored(length)

    def retrying(self, error: IngestError, seconds: float) -> None:
        """Say why nothing happens, where that takes longer."""
        if seconds >= LONGEST_UNTOLD_SECONDS:
            mention(f"{self._name}: {error}; trying again in {duration(seconds)}")

    def waiting(self, state: State) -> None:
        """Show the stage of the job, and say why it is deferred."""
        stage = f"job {state['job_id']}: {state.get('task')}"
        if stage != self._stage:
            self._stage = stage
            self._screen.stage(stage)
        until = deferred_until(state)
        if until is None:
            self._told = ""
        elif until != self._told:
            self._told = until
            why = "; ".join(str(state["exception"]).split("\n"))
            mention(f"{self._name}: job {state['job_id']} is deferred: {why}")

    def warn(self, message: str) -> None:
        """Write the warning."""
        self._screen.warn(message)

    def accepted(self, state: State) -> None:
        """Write which job it is."""
        self._screen.end()
        self._say(f"job {state['job_id']}: {self._name} was sent")

    def settled(self, state: State) -> None:
        """Write how it ended, where it ended well."""
        self._screen.end()
        if is_complete(state):
            note = str(state.get("exception") or "").partition("\n")[0]
            self._say(f"job {state['job_id']}: {self._name} is complete{f' ({note})' if note else ''}")

    def failed(self, error: IngestError) -> None:
        """Say on standard error why it failed."""
        self._screen.end()
        super().failed(error)

    def _say(self, line: str) -> None:
        with regardless():
            say(line)


class PlainSending(Once, PlainScreen):
    """A line for packing, sending and each stage of the job, and every so often of sending."""
