"""``ingest upload PATH...``."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import INSTRUMENT, PROJECT, SUBMITTER, Config, Keys, Packing, RunOutput, User, pairs_of, settings_under
from .output import finish, notify
from .rates import rate_of
from .site_options import given_in, uploader_config

if TYPE_CHECKING:
    from ..client.plan import Metadata, UploadDescription
    from ..client.target import Target
    from ..client.upload import Outcome, Terms
    from ..settings import Settings


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where to send to."""

    to: Annotated[
        str | None, typer.Option("--to", help="The server to send to [env: INGEST_UPLOAD_URL].", metavar="URL")
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="The file with the server's bearer token [env: INGEST_UPLOAD_TOKEN].", metavar="FILE"
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            help="CA certificates to trust instead of the system's [env: INGEST_UPLOAD_CA_FILE].",
            metavar="FILE",
        ),
    ] = None
    config: Config = None
    user: User = None

    @property
    def settings(self) -> "Settings":
        """The settings under these options. Raises SettingsError."""
        from ..settings.options import ACCESS, UPLOAD_URL

        flags = {
            UPLOAD_URL: None if self.to is None else _without_password(self.to),
            ACCESS[UPLOAD_URL].token: None if self.token_file is None else _token_in(self.token_file),
            ACCESS[UPLOAD_URL].ca_file: None if self.ca_file is None else str(self.ca_file),
        }
        return settings_under(config=self.config, user=self.user, more=flags)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the metadata of packed files says."""

    submitter: Annotated[int | None, SUBMITTER] = None
    project: Annotated[str | None, PROJECT] = None
    instrument: Annotated[int | None, INSTRUMENT] = None
    key: Keys = None
    uploader_config: Annotated[
        Path | None,
        typer.Option(
            "--uploader-config",
            help="Ask a policy service for the metadata, as this uploader.json of pacifica-cli says"
            " [env: UPLOADER_CONFIG].",
            metavar="FILE",
        ),
    ] = None
    pack: Annotated[bool, typer.Option("--pack", help="Pack files too, even those that may be bundles.")] = False
    together: Annotated[bool, typer.Option("--together", help="Pack all paths into one bundle.")] = False

    def description(self, ctx: typer.Context) -> "UploadDescription":
        """What these options, and those of the site, say. Raises SettingsError."""
        from ..client.plan import UploadDescription

        return UploadDescription(
            submitter=self.submitter,
            project=self.project,
            instrument=self.instrument,
            pairs=pairs_of(self.key),
            given=given_in(ctx),
        )

    def site_config(self, destination: Destination, description: "UploadDescription") -> Path | None:
        """The uploader.json that says what to ask for; None where all that a bundle needs is said already."""
        if self.uploader_config is None and not description.missing and not description.answers_something:
            return None
        return uploader_config(destination.config, self.uploader_config)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How it is sent, and for how long anything is waited for."""

    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End when the server has everything; do not wait for its jobs.")
    ] = False
    max_wait: Annotated[
        float | None,
        typer.Option("--max-wait", min=0, help="Wait for a job no longer than this.", metavar="SECONDS"),
    ] = None
    retry_for: Annotated[
        float,
        typer.Option(
            "--retry-for", min=0, help="Try again for so long while the server cannot be reached.", metavar="SECONDS"
        ),
    ] = 300.0
    limit_rate: Annotated[
        str | None,
        typer.Option("--limit-rate", help="Send no more bytes a second than this, such as 500k or 5M.", metavar="RATE"),
    ] = None

    @property
    def terms(self) -> "Terms":
        """These options. Raises SettingsError."""
        from ..client.upload import Terms

        return Terms(
            rate=rate_of(self.limit_rate),
            patience=self.retry_for,
            waits=not self.no_wait,
            longest_wait=self.max_wait,
        )


@command
def upload(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Bundles to send, and files and folders to pack and send.")
    ],
    destination: Destination,
    contents: Contents,
    packing: Packing,
    pace: Pace,
    options: RunOutput,
) -> None:
    """Send bundles, files and folders to a server.

    Files and folders are packed. Ends when all is stored, unless told not to wait.
    """
    from .. import api
    from .signals import interruptible
    from .upload_display import upload_screen_for

    settings, description = destination.settings, contents.description(ctx)
    config = contents.site_config(destination, description)
    asking = None if config is None else _Asking(description, config, settings, pace)
    began = time.monotonic()
    with interruptible():
        outcomes = list(
            api.upload(
                paths,
                **description.ids,
                keys=description.pairs,
                ask=asking,
                rules=packing.rules,
                pack=contents.pack or description.says_something,
                together=contents.together,
                terms=pace.terms,
                observe=partial(upload_screen_for, options),
                settings=settings,
            )
        )
    if len(outcomes) > 1 and not options.quiet:
        notify(*_summary(outcomes, time.monotonic() - began, waited=not pace.no_wait))
    finish([outcome.error for outcome in outcomes], debug=options.debug)


def _summary(outcomes: Sequence["Outcome"], seconds: float, *, waited: bool) -> list[str]:
    from collections import Counter

    from ..text import duration
    from .several import COMPLETE, DEFERRED, FAILED, SENT, achieved, summary

    well = COMPLETE if waited else SENT
    errors = [outcome.error for outcome in outcomes]
    endings = Counter(well if error is None else DEFERRED if error.transient else FAILED for error in errors)
    failures = [f"{outcome.item.name}: {outcome.error.lines[0]}" for outcome in outcomes if outcome.error is not None]
    stored = [outcome.state for outcome in outcomes if outcome.error is None and outcome.state is not None]
    if not all(state.get("files") for state in stored):  # as a server of another version does not say it
        return summary("upload", endings, f"it took {duration(seconds)}", failures)
    files, size = (sum(int(state[key]) for state in stored) for key in ("files", "bytes"))
    return summary("upload", endings, achieved(files, size, seconds), failures)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Finds the metadata of what is packed as ``config`` asks for it, the uploader.json of a site."""

    description: "UploadDescription"
    config: Path
    settings: "Settings"
    pace: Pace

    def __call__(self, path: Path, target: "Target") -> "Metadata":
        """The metadata. Raises SettingsError."""
        from ..client.plan import asked, user_of
        from ..client.questions import Policy, read_questions
        from ..client.retries import Retries
        from ..client.session import Session
        from ..errors import SettingsError
        from .choosing import choose
        from .upload_screens import PolicyScreen

        if target.policy_url is None:
            raise SettingsError(f"no policy service to ask for what {self.config} says: set policy_url in [upload]")
        retries = Retries(self.pace.retry_for, PolicyScreen())
        with closing(Session(target, "the policy service")) as session:
            policy = Policy(session, target.policy_url, user_of(self.description, self.settings.user), retries)
            return asked(self.description, read_questions(self.config), policy, choose)


def _without_password(url: str) -> str:
    from ..errors import SettingsError

    if "@" in url:
        raise SettingsError("--to: whoever lists processes sees a password in it: see the page for other ways")
    return url


def _token_in(path: Path) -> str:
    from ..disk import explained, open_regular
    from ..errors import SettingsError

    try:
        with open_regular(path) as file:
            token = file.read(10_000).decode().strip()
    except OSError as error:
        raise explained(error, f"cannot read {path}", SettingsError) from error
    except UnicodeDecodeError:
        token = ""
    if not token:
        raise SettingsError(f"{path} holds no token")
    return token
